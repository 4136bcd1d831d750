"""Whether configuration files have changed, without reading them.

The files of a stack are looked at with every event, and reading and parsing them
took half of the look.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
Stamps = tuple[tuple[str, int, int, int, int], ...]
"""Path, inode, size and the times of the last change of each file."""


class Reading(Generic[T]):
    """What files say: read by ``read`` when ``stamp`` gives other stamps than the last time."""

    def __init__(self, stamp: Callable[[], Stamps], read: Callable[[], T]) -> None:
        self._stamp = stamp
        self._read = read
        self._last: tuple[Stamps, T] | None = None

    def now(self) -> T:
        """Return what they say now. Raises what ``read`` raises."""
        current = self._stamp()
        if self._last is None or self._last[0] != current:
            self._last = current, self._read()
        return self._last[1]


def stamps(directories: Iterable[Path], suffix: str) -> Stamps:
    """Return the stamps of the files with a suffix, and of those in their drop-in directories.

    They are taken before the files are read: a change in between makes the next
    ones differ.
    """
    return tuple(
        sorted(
            stamp
            for directory in directories
            for stamp in _stamps(str(directory), (suffix, f"{suffix}.d"))
        )
    )


def _stamps(directory: str, suffixes: tuple[str, ...]) -> Iterator[tuple[str, int, int, int, int]]:
    try:
        entries = os.scandir(directory)
    except OSError:
        return
    with entries:
        for entry in entries:
            if not entry.name.endswith(suffixes):
                continue
            try:
                status = entry.stat()
            except OSError:
                continue  # it has gone, or a link leads nowhere
            times = (status.st_mtime_ns, status.st_ctime_ns)
            yield entry.path, status.st_ino, status.st_size, *times
            if entry.name.endswith(".d"):
                yield from _stamps(entry.path, (".conf",))
