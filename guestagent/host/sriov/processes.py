"""Open files of the processes of this host, from /proc (proc_pid_fd(5))."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def pids(proc: Path) -> Iterator[int]:
    """Yield the number of every process."""
    with os.scandir(proc) as entries:
        yield from [int(entry.name) for entry in entries if entry.name.isdigit()]


def open_files(proc: Path, pid: int) -> Iterator[str]:
    """Yield the open files of a process as the kernel names them; none without permission.

    A file that is closed meanwhile does not hide the others. Hosts have many thousands of open
    files, and every step reads them: hence no Path for each.
    """
    with suppress(OSError), os.scandir(f"{proc}/{pid}/fd") as entries:
        for entry in entries:
            with suppress(OSError):
                yield os.readlink(entry.path)  # noqa: PTH115 - see above
