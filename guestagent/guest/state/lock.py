"""Lock of the one process that may change the network: the agent, or a command without it.

``/run/guestagent/writer.lock`` is locked (flock(2)) while its process may change anything;
the kernel unlocks it at any end of that process.
"""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

from guestagent.errors import BusyError
from guestagent.guest.state.holds import RUNTIME_DIR

_log = logging.getLogger("guestagent.writer")


class WriterLock:
    """The lock, held from ``take`` or ``wait`` on until the process ends."""

    def __init__(self, directory: Path = RUNTIME_DIR) -> None:
        self._path = directory / "writer.lock"
        self._descriptor: int | None = None

    def take(self) -> None:
        """Take the lock. Raises BusyError when another process has it, and OSError."""
        try:
            self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(
                "another guestagent process is changing the network",
                hint="try again when it has ended",
            ) from error

    def wait(self) -> None:
        """Take the lock, waiting without a limit. Raises OSError."""
        try:
            self.take()
        except BusyError as error:
            _log.info("%s, waiting for it to end", error)
            self._lock(fcntl.LOCK_EX)

    def release(self) -> None:
        """Release the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _lock(self, operation: int) -> None:
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, operation)
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
