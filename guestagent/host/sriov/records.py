"""Leases on disk: one file for each leased VF, ``<directory>/<address>.json``.

A record appears completely or not at all: it is written to another file, synchronised, and linked
to its name, which fails if the name is taken. A crash at any point therefore leaves no lease or a
readable one. A process that changes leases holds the lock of the directory meanwhile, and never
while it waits. If it is stopped then, others wait for a bounded time only.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from guestagent.clock import Clock, Deadline, Sleep
from guestagent.codec import members
from guestagent.errors import BusyError, ConflictError, SystemLacksError
from guestagent.files import read_file, sync_directory
from guestagent.host.sriov.base import NotLeasedError
from guestagent.host.sriov.core.model import Lease
from guestagent.json_fields import JsonError, Obj

DIRECTORY = "vfs"
"""Of the leases below the state directory, beside those of the VMs."""
VERSION = 1
LOCK_TIMEOUT_S = 30.0
LOCK_POLL_S = 0.02


class Records:
    """The leases below one directory, which the first write creates."""

    def __init__(
        self, directory: Path, *, clock: Clock = time.monotonic, sleep: Sleep = time.sleep
    ) -> None:
        self.directory = directory
        self._clock = clock
        self._sleep = sleep

    def all(self) -> Mapping[str, Lease]:
        """Return every lease by the address of its VF.

        Raises ConflictError if a record is invalid, as its VF may be in use, and
        SystemLacksError without permission.
        """
        if not self.directory.is_dir():
            return {}
        if not os.access(self.directory, os.R_OK | os.X_OK):
            raise SystemLacksError(f"{self.directory}: cannot be read", hint="run as root")
        found = {}
        for path in sorted(self.directory.glob("*.json")):
            lease = self._read(path)
            if lease is not None:
                found[lease.vf] = lease
        return found

    def held(self, lease: Lease) -> Lease:
        """Return the present record of a lease. Raises NotLeasedError."""
        current = self._read(self._path(lease.vf))
        if current is None or current.owner != lease.owner:
            whose = "nobody has" if current is None else f"{current.owner} has"
            raise NotLeasedError(
                f"{lease.vf}: {lease.owner} has no lease on it any more; {whose}",
                hint="guestagent-host vf list shows who has which VF",
            )
        return current

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Exclude other processes from changing leases. Raises SystemLacksError and BusyError."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(
                self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise SystemLacksError(
                f"{self.directory}: {error.strerror}",
                hint="run as root, or name a directory of your own with --state-dir",
            ) from error
        try:
            self._lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        deadline = Deadline.after(LOCK_TIMEOUT_S, self._clock)
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if deadline.expired:
                    raise BusyError(
                        f"{self.directory}/lock: held by another process for {LOCK_TIMEOUT_S:g} s",
                        hint="see which one with fuser, and whether it was stopped",
                    ) from error
                self._sleep(LOCK_POLL_S)
            else:
                return

    def create(self, lease: Lease) -> None:
        """Write the record of a new lease. Raises NotLeasedError if the VF has one."""
        path = self._path(lease.vf)
        written = self._write_beside(path, lease)
        try:
            os.link(written, path)
        except FileExistsError as error:
            raise NotLeasedError(
                f"{lease.vf}: another process has claimed it meanwhile"
            ) from error
        finally:
            written.unlink()
        sync_directory(self.directory)

    def replace(self, lease: Lease) -> None:
        """Replace the record of a lease."""
        path = self._path(lease.vf)
        self._write_beside(path, lease).replace(path)
        sync_directory(self.directory)

    def remove(self, lease: Lease) -> None:
        """Remove the record of a lease; a missing one is no error."""
        self._path(lease.vf).unlink(missing_ok=True)
        sync_directory(self.directory)

    def _path(self, vf: str) -> Path:
        return self.directory / f"{vf}.json"

    def _read(self, path: Path) -> Lease | None:
        try:
            return _decode(read_file(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SystemLacksError(f"{path}: {error.strerror}", hint="run as root") from error
        except JsonError as error:
            raise ConflictError(
                f"{path}: not the record of a lease: {error}",
                hint="see that no VM uses this VF, then remove the file",
            ) from error

    def _write_beside(self, path: Path, lease: Lease) -> Path:
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        with beside.open("wb") as file:
            file.write(_encode(lease))
            file.flush()
            os.fsync(file.fileno())
        return beside


def _encode(lease: Lease) -> bytes:
    document: dict[str, Any] = {"version": VERSION, **asdict(lease)}
    return json.dumps(document, indent=2).encode() + b"\n"


def _decode(text: bytes) -> Lease:
    record = Obj.parse(text)
    if record.integer("version") != VERSION:
        raise JsonError(f"its version is {record.integer('version')}, {VERSION} is known")
    return members(Lease, record)
