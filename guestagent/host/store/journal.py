"""Write-ahead journal: each step is fsynced before it runs, its result is written afterwards.

One file for each operation, ``<state_dir>/<vm>/<number>.jsonl``, one JSON
object a line. ``Entered`` is on the disk before the effect of that state
begins, ``EffectEnded`` is written after it. After a crash the last line shows the position:
the effect of an ``Entered`` state may have happened, a later one cannot have. A torn line
counts as not written: its effect was not begun.

An operation is finished when its last state leaves nothing to do (UNKNOWN does not: the guest
has yet to be found). Until then no other operation may begin.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from guestagent.codec import plain, value_of
from guestagent.errors import ConflictError, SystemLacksError
from guestagent.files import read_file, sync_directory
from guestagent.host.migration.events import Event
from guestagent.host.migration.state import Phase, State
from guestagent.host.migration.transitions import step
from guestagent.host.model import MigrationFigures, Moment
from guestagent.host.store.lock import vm_lock
from guestagent.json_fields import JsonError, Obj

VERSION = 1
MAX_LINE_BYTES = 1024 * 1024
MAX_BYTES = 64 * 1024 * 1024
"""Limit of one operation's journal: hundreds of times the size of a long one."""
KEPT_OPERATIONS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """A process started or resumed the operation."""

    command: str
    program: str
    host: str | None = None
    """The destination's host, as ``Destination.host``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """The effect of ``state`` is about to begin; nothing follows a final one."""

    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectEnded:
    """The result of the effect."""

    WIRE_NAME: ClassVar[str] = "CameTo"

    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """QEMU's events and figures of the operation, at its end."""

    moments: tuple[Moment, ...]
    figures: MigrationFigures | None = None


Entry = Began | Entered | EffectEnded | Observed


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line. ``unix_s`` is wall clock, ``mono_s`` this host's monotonic clock, in seconds."""

    unix_s: float
    mono_s: float
    what: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """The readable part of one file."""

    path: Path
    records: tuple[Record, ...]
    complete_bytes: int
    """The length of the complete lines at the start of the file."""

    @property
    def command(self) -> str:
        """The command that began it."""
        return next((w.command for w in self.entries if isinstance(w, Began)), "unknown")

    @property
    def host(self) -> str | None:
        """The destination's host that it began with."""
        return next((w.host for w in self.entries if isinstance(w, Began)), None)

    @property
    def entries(self) -> Iterator[Entry]:
        """The entries, in order."""
        return (record.what for record in self.records)

    @property
    def state(self) -> State | None:
        """The state whose effect may be under way; None before the first."""
        state: State | None = None
        event: Event | None = None
        for what in self.entries:
            if isinstance(what, Entered):
                state, event = what.state, None
            elif isinstance(what, EffectEnded):
                event = what.event
        return state if state is None or event is None else step(state, event)

    @property
    def finished(self) -> bool:
        """Whether its last state was entered and leaves nothing to do."""
        states = [what.state for what in self.entries if isinstance(what, Entered)]
        return not states or states[-1].phase.over


class Journal:
    """The open file of one operation; its owner holds the lock of the VM."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def begin(cls, directory: Path, what: Began) -> Journal:
        """Begin an operation and drop the oldest of those that have finished.

        Raises ConflictError when the one before has not finished, SystemLacksError when the
        directory cannot be written.
        """
        must_be_free(directory)
        kept = _journals(directory)
        path = directory / f"{max(kept, default=0) + 1:06}.jsonl"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            journal = cls(path, descriptor)
            journal.write(what, durable=True)
            sync_directory(directory)
            for old in list(kept.values())[: 1 - KEPT_OPERATIONS]:
                old.unlink()
        except OSError as error:
            raise _unwritable(path, error) from error
        return journal

    @classmethod
    def resume(cls, operation: Operation, what: Began) -> Journal:
        """Go on with an operation; a torn last line is removed first."""
        try:
            descriptor = os.open(operation.path, os.O_RDWR | os.O_CLOEXEC)
            os.ftruncate(descriptor, operation.complete_bytes)
            os.lseek(descriptor, 0, os.SEEK_END)
            journal = cls(operation.path, descriptor)
            journal.write(what, durable=True)
        except OSError as error:
            raise _unwritable(operation.path, error) from error
        return journal

    def entered(self, state: State) -> None:
        """Record that the effect of a state begins; durable on return."""
        self.write(Entered(state=state), durable=True)

    def effect_ended(self, event: Event) -> None:
        """Record the result of an effect.

        Not forced to the disk: the next ``entered`` does that. If the line is lost, the effect
        counts as one that may have happened.
        """
        self.write(EffectEnded(event=event), durable=False)

    def observed(self, moments: Sequence[Moment], figures: MigrationFigures | None) -> None:
        """Record the events and figures for ``report``."""
        self.write(Observed(moments=tuple(moments), figures=figures), durable=False)

    def write(self, what: Entry, *, durable: bool) -> None:
        """Append a line that ``read`` takes. Raises SystemLacksError; no effect may begin then."""
        record = {
            "v": VERSION,
            "unix_s": time.time(),
            "mono_s": time.monotonic(),
            "what": plain(what),
        }
        left = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        length = os.lseek(self._descriptor, 0, os.SEEK_CUR)
        if len(left) > MAX_LINE_BYTES or length + len(left) > MAX_BYTES:
            raise SystemLacksError(
                f"{self.path}: no room for a line of {len(left)} bytes after {length}",
                hint=f"a journal has {MAX_BYTES} bytes and {MAX_LINE_BYTES} a line: recover",
            )
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
            if durable:
                os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, length)  # nothing may follow half a line
            os.lseek(self._descriptor, length, os.SEEK_SET)
            raise _unwritable(self.path, error) from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def newest(directory: Path) -> Operation | None:
    """Return the last operation of a VM, None when there was none. Raises ConflictError."""
    kept = _journals(directory)
    return read(kept[max(kept)]) if kept else None


def must_be_free(directory: Path) -> None:
    """Raise ConflictError when the last operation of a VM has not finished."""
    last = newest(directory)
    if last is not None and not last.finished:
        raise unfinished(last)


@contextmanager
def lock_of_idle_vm(state_dir: Path, vm: str) -> Iterator[None]:
    """Hold the lock of a VM that has no unfinished operation.

    Raises as ``vm_lock`` does, and ConflictError when the last operation has not finished.
    """
    with vm_lock(state_dir, vm):
        must_be_free(state_dir / vm)
        yield


def operations(directory: Path) -> list[int]:
    """Return the numbers of the operations that are kept, the oldest first."""
    return list(_journals(directory))


def operation(directory: Path, number: int) -> Operation:
    """Return one operation. Raises ConflictError when it is not there."""
    kept = _journals(directory)
    if number in kept:
        return read(kept[number])
    if not kept:
        raise ConflictError(
            f"{directory.name}: no operation on this VM was started here ({directory})",
            hint="report a migration on the host where it was started; see --state-dir",
        )
    raise ConflictError(
        f"{directory.name}: there is no journal of operation {number}",
        hint=f"kept are: {', '.join(map(str, kept))}; see --operation",
    )


def read(path: Path) -> Operation:
    """Read the journal of one operation.

    Raises ConflictError when a line before the last cannot be read, or was written by a
    program whose journals this one does not know.
    """
    try:
        text = read_file(path, MAX_BYTES)
    except OSError as error:
        raise _unwritable(path, error) from error
    except JsonError as error:
        raise _damaged(path, str(error)) from error
    records: list[Record] = []
    whole = 0
    while whole < len(text):
        end = text.find(b"\n", whole)
        last = end < 0 or end == len(text) - 1
        try:
            if end < 0:
                break
            records.append(_record(text[whole:end]))
        except JsonError as error:
            if last:
                break  # torn: its effect was not begun
            raise _damaged(path, f"line {len(records) + 1}: {error}") from error
        whole = end + 1
    return Operation(path=path, records=tuple(records), complete_bytes=whole)


def unfinished(operation: Operation) -> ConflictError:
    """Return the error for a command that is refused because ``operation`` has not finished."""
    vm = operation.path.parent.name
    state = operation.state
    where = "its beginning" if state is None else f"phase {state.phase}"
    if state is not None and state.phase is Phase.PREPARED:
        return ConflictError(
            f"{vm}: a migration is prepared ({operation.path})",
            hint="run guestagent-host complete after it, or rollback, with the same description",
        )
    return ConflictError(
        f"{vm}: an earlier {operation.command} did not finish, it stopped in {where}"
        f" ({operation.path})",
        hint="run: guestagent-host recover with the same description",
    )


def _record(line: bytes) -> Record:
    if len(line) > MAX_LINE_BYTES:
        raise JsonError(f"longer than {MAX_LINE_BYTES} bytes")
    value = Obj.parse(line)
    if value.integer("v") != VERSION:
        raise JsonError(f"version {value.integer('v')}, this program knows {VERSION}")
    what: Any = value_of(Entry, value.value.get("what"))
    return Record(unix_s=value.number("unix_s"), mono_s=value.number("mono_s"), what=what)


def _journals(directory: Path) -> dict[int, Path]:
    """Return the journals by the numbers of their operations, the oldest first."""
    paths = (path for path in directory.glob("*.jsonl") if path.stem.isdecimal())
    return dict(sorted((int(path.stem), path) for path in paths))


def _damaged(path: Path, what: str) -> ConflictError:
    return ConflictError(
        f"{path}: {what}",
        hint="this journal cannot be trusted: examine both QEMUs and the VFs by hand, correct"
        " them, then move the file away",
    )


def _unwritable(path: Path, error: OSError) -> SystemLacksError:
    return SystemLacksError(
        f"{path}: {error.strerror}",
        hint="the journal must be readable and writable: check the permissions and the disk",
    )
