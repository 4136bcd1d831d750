"""Objects of one run of the lab in the system, named by its process and removed at its end.

A run that is killed cannot clean up; the next one does it, as a name carries its owner's PID.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from pathlib import Path

from guestagent.errors import SystemLacksError
from lab.base.process import run

PREFIX = "guestagent-lab-"

_serial = itertools.count()


def unique_name() -> str:
    """Return a name that no other run has."""
    return f"{PREFIX}{os.getpid()}-{next(_serial)}"


def make_directory() -> Path:
    """Make a directory for sockets and disks (a socket's path is limited to 107 bytes)."""
    path = Path(tempfile.gettempdir(), unique_name())
    path.mkdir(mode=0o700)
    return path


def remove_leftovers() -> None:
    """Delete namespaces and directories of runs whose process is gone."""
    for path in Path("/run/netns").glob(f"{PREFIX}*"):
        if not _owner_lives(path.name):
            try:
                run("ip", "netns", "delete", path.name)
            except SystemLacksError:
                if path.exists():  # else another run has been faster
                    raise
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if not _owner_lives(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _owner_lives(name: str) -> bool:
    return Path("/proc", name.removeprefix(PREFIX).split("-")[0]).exists()
