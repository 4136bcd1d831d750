"""What the stacks share: asking a program, whether a service runs, how files are put on disk."""

from __future__ import annotations

import subprocess
from pathlib import Path

from guestagent.errors import PeerError
from guestagent.guest.core.model import STANDBY_DRIVER, StackFile


def ask(*command: str, hint: str, timeout_s: float = 15.0) -> str:
    """Run a program and return what it prints. Raises PeerError, with its words."""
    try:
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=timeout_s
        )
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip()
        raise PeerError(f"{' '.join(command)} failed: {said}", hint=hint) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"could not run {' '.join(command)}: {error}", hint=hint) from error
    return done.stdout


def runs(service: str, root: Path = Path("/")) -> bool:
    """Whether a service of systemd has processes: asked of its control group, which costs nothing.

    With the unified hierarchy it is at the first place, else at the second (systemd:
    docs/CGROUP_DELEGATION.md). The group of a service that has ended is removed.
    """
    groups = root / "sys/fs/cgroup"
    return any(
        (place / "system.slice" / service).is_dir() for place in (groups, groups / "systemd")
    )


def text_of(path: Path) -> str:
    """Return what a file of the user's says, where a comment may be in any encoding.

    networkd and ifupdown pass over comments without looking at them. Raises OSError.
    """
    return path.read_text(encoding="utf-8", errors="replace")


def make_directory(path: Path) -> None:
    """Make a directory that others can read, whatever the process's umask. Raises OSError.

    networkd runs as a user of its own, and NetworkManager has files for everybody there.
    """
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir(exist_ok=True)
        path.chmod(0o755)


def on_disk(
    path: Path, content: str, *, also: str | None = None, before: str | None = None
) -> StackFile:
    """Return a file that must be on disk, and whether it is: with this content, or ``also``'s."""
    try:
        in_place = path.read_text() in (content, also)
    except (OSError, UnicodeDecodeError):
        in_place = False
    return StackFile(path=str(path), content=content, in_place=in_place, before=before)


def standby_of(bond: str, root: Path = Path("/")) -> str | None:
    """Return the name of the virtio NIC in a bond, as sysfs has it."""
    for port in sorted((root / "sys/class/net").glob(f"{bond}/lower_*")):
        driver = port / "device/driver"
        if driver.exists() and driver.resolve().name == STANDBY_DRIVER:
            return port.name.removeprefix("lower_")
    return None
