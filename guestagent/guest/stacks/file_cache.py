"""Configuration files that are read and parsed again only after a change.

The agent asks the stacks after every event. Reading and parsing their files took half of the
time of an observation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
Fingerprint = tuple[tuple[str, int, int, int, int], ...]
"""Path, inode, size, modification time and change time of each file."""


class CachedFiles(Generic[T]):
    """Result of ``read``, kept as long as ``fingerprint`` returns the same."""

    def __init__(self, fingerprint: Callable[[], Fingerprint], read: Callable[[], T]) -> None:
        self._fingerprint = fingerprint
        self._read = read
        self._last: tuple[Fingerprint, T] | None = None

    def current(self) -> T:
        """Return the result for the files as they are now. Raises what ``read`` raises."""
        fingerprint = self._fingerprint()
        if self._last is None or self._last[0] != fingerprint:
            self._last = fingerprint, self._read()
        return self._last[1]


def fingerprint_of(directories: Iterable[Path], suffix: str) -> Fingerprint:
    """Return the fingerprint of all files with a suffix, and of their drop-in directories.

    Take it before the files are read: a change in between then alters the next fingerprint.
    """
    suffixes = (suffix, f"{suffix}.d")
    return tuple(sorted(chain.from_iterable(_entries(str(d), suffixes) for d in directories)))


def _entries(
    directory: str, suffixes: tuple[str, ...]
) -> Iterator[tuple[str, int, int, int, int]]:
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
                continue  # the file has gone, or is a dangling link
            times = (status.st_mtime_ns, status.st_ctime_ns)
            yield entry.path, status.st_ino, status.st_size, *times
            if entry.name.endswith(".d"):
                yield from _entries(entry.path, (".conf",))
