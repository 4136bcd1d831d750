"""One writer: of the agent and a command that works without it, only one changes the network.

``/run/guestagent/writer.lock`` is locked (flock(2)) for as long as its process changes
anything; the kernel unlocks it when that process ends, however it ends.
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
        descriptor = self._open()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise BusyError(
                "another guestagent changes the network now", hint="try again when it has ended"
            ) from error
        self._descriptor = descriptor

    def wait(self) -> None:
        """Take the lock when it is free, however long that takes. Raises OSError."""
        try:
            self.take()
        except BusyError as error:
            _log.info("%s, waiting for it to end", error)
            descriptor = self._open()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._descriptor = descriptor

    def release(self) -> None:
        """Let others have it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
