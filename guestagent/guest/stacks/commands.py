"""Programs and services of the system, as the network stacks use them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from guestagent.errors import PeerError


def run_command(*command: str, hint: str, timeout_s: float = 15.0) -> str:
    """Run a program and return its standard output. Raises PeerError with its message."""
    try:
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=timeout_s
        )
    except subprocess.CalledProcessError as error:
        message = (error.stderr or error.stdout).strip()
        raise PeerError(f"{' '.join(command)} failed: {message}", hint=hint) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"could not run {' '.join(command)}: {error}", hint=hint) from error
    return done.stdout


def service_is_running(service: str, root: Path = Path("/")) -> bool:
    """Whether a service of systemd has processes. Reads its control group and starts no program.

    The group is at the first place with the unified hierarchy, else at the second (systemd:
    docs/CGROUP_DELEGATION.md). systemd removes the group of a service that has ended.
    """
    groups = root / "sys/fs/cgroup"
    return any(
        (place / "system.slice" / service).is_dir() for place in (groups, groups / "systemd")
    )
