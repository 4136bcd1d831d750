"""The agent's package in a newer version."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from lab.image import ensure_agent_package
from lab.process import run

NEWER_VERSION = "999~lab"


@functools.cache
def newer_agent() -> bytes:
    """Return the agent's package with a version that is higher than every other."""
    with tempfile.TemporaryDirectory() as work:
        tree = Path(work, "tree")
        run("dpkg-deb", "--raw-extract", ensure_agent_package(), tree)
        control = tree / "DEBIAN" / "control"
        lines = control.read_text().splitlines()
        control.write_text(
            "".join(
                f"Version: {NEWER_VERSION}\n" if line.startswith("Version:") else f"{line}\n"
                for line in lines
            )
        )
        target = Path(work, "newer.deb")
        run("dpkg-deb", "--build", "--root-owner-group", tree, target)
        return target.read_bytes()
