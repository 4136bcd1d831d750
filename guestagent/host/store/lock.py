"""A lock per VM across processes; it ends with its holder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from guestagent.errors import BusyError, SystemLacksError


@contextmanager
def vm_lock(state_dir: Path, vm: str) -> Iterator[None]:
    """Hold the lock of ``vm``: the file ``<state_dir>/<vm>/lock``, never removed.

    Raises BusyError when another process holds it, SystemLacksError when the
    directory cannot be made or written, or can be written by others.
    """
    path = state_dir / vm / "lock"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _must_be_ours(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SystemLacksError(
            f"{path}: {error.strerror}",
            hint="run as root, or name a directory of your own with --state-dir",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 16, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise BusyError(
            f"{vm}: process {holder} is working on this VM",
            hint="try again when it has ended",
        ) from error
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _must_be_ours(directory: Path) -> None:
    """Refuse a directory where other users could write a journal that ``recover`` would follow."""
    status = directory.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise SystemLacksError(
            f"{directory}: it must belong to this program's user, and no other may write there",
            hint=f"chown it and: chmod 700 {directory}",
        )
