"""The journal on the disk: what is read is what was written, whatever a crash left of it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from guestagent import codec
from guestagent.errors import ConflictError, SystemLacksError
from guestagent.findings import Finding
from guestagent.host.migration.events import (
    BothViews,
    Cancel,
    Event,
    OutcomeUnknown,
    Rejected,
    Succeeded,
    TimedOut,
)
from guestagent.host.migration.state import Goal, Limits, Phase, State
from guestagent.host.model import End, MigrationFigures, Moment, QemuState
from guestagent.host.store.journal import (
    KEPT_OPERATIONS,
    Began,
    EffectEnded,
    Entered,
    Journal,
    Observed,
    newest,
    operations,
    read,
)
from guestagent.json_fields import JsonError

BEGAN = Began(command="migrate", program="1")
FIRST = State(
    phase=Phase.PREPARE,
    goal=Goal.MIGRATE,
    home=End.SOURCE,
    home_vfs=("vf0",),
    target_vfs=("vf0",),
    limits=Limits(attach_tries=7),
    reachable=frozenset(End),
)
LATER = replace(
    FIRST,
    phase=Phase.RETURN,
    problem=Finding(message="a", hint="b"),
    switched=True,
    guest_at=End.SOURCE,
    warnings=("é\n",),
)
SEEN = BothViews(
    home=QemuState(end=End.SOURCE, run_state="running", devices=frozenset({"vf0", "net0"})),
    away=QemuState(end=End.DESTINATION, unreachable="gone", gone=True),
)
EVENTS: tuple[Event, ...] = (
    SEEN,
    Succeeded(),
    Rejected(detail="no"),
    OutcomeUnknown(detail="gone"),
    TimedOut(detail="late"),
    Cancel(),
)


def write(directory: Path, *states: State, end: Event | None = None) -> Path:
    """Write an operation that went through these states."""
    journal = Journal.begin(directory, BEGAN)
    for state in states:
        journal.entered(state)
    if end is not None:
        journal.effect_ended(end)
    journal.close()
    return journal.path


@pytest.mark.parametrize("state", [FIRST, LATER])
def test_a_state_comes_back_as_it_was(state: State) -> None:
    assert codec.typed(State, codec.plain(state)) == state


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_comes_back_as_it_was(event: Event) -> None:
    assert codec.value_of(Event, codec.plain(event)) == event


@pytest.mark.parametrize(
    "change",
    [
        {"phase": "nowhere"},
        {"home_vfs": "vf0"},
        {"sent": 1},
        {"surprise": True},
        {"is": "Done"},
        {"guest_at": 3},
        {"limits": None},
    ],
)
def test_an_entry_that_is_no_state_is_reported(change: dict[str, object]) -> None:
    with pytest.raises(JsonError):
        codec.typed(State, {**codec.plain(LATER), **change})


def test_a_state_without_a_member_is_reported() -> None:
    document = codec.plain(FIRST)
    del document["home_vfs"]
    with pytest.raises(JsonError, match="lacks home_vfs"):
        codec.typed(State, document)


def test_all_lines_come_back_with_their_times(tmp_path: Path) -> None:
    moment = Moment(name="stop", end=End.SOURCE, vf=None, at_s=1.5, received_s=2.0)
    figures = MigrationFigures(total_ms=5, downtime_ms=1, setup_ms=None, transferred_bytes=9)
    journal = Journal.begin(tmp_path, BEGAN)
    journal.entered(FIRST)
    journal.effect_ended(SEEN)
    journal.observed([moment], figures)
    journal.close()
    operation = read(journal.path)
    assert tuple(operation.entries) == (
        BEGAN,
        Entered(state=FIRST),
        EffectEnded(event=SEEN),
        Observed(moments=(moment,), figures=figures),
    )
    times = [record.mono_s for record in operation.records]
    assert times == sorted(times)
    assert operation.command == "migrate"


def test_the_state_follows_from_the_result_of_the_last_effect(tmp_path: Path) -> None:
    write(tmp_path, FIRST, end=Cancel())
    operation = newest(tmp_path)
    assert operation is not None
    assert operation.state is not None
    assert operation.state.phase is Phase.FAILED
    assert not operation.finished, "that end was not entered"


def test_a_crash_at_any_byte_is_a_crash_before_that_line(tmp_path: Path) -> None:
    path = write(tmp_path, FIRST, LATER, end=Succeeded())
    text = path.read_bytes()
    ends = [number + 1 for number, byte in enumerate(text) if byte == ord("\n")]
    for length in range(len(text) + 1):
        path.write_bytes(text[:length])
        operation = read(path)
        assert len(operation.records) == sum(end <= length for end in ends)
        assert operation.complete_bytes == max([0, *(end for end in ends if end <= length)])


def test_zeros_that_a_power_loss_left_are_a_torn_line(tmp_path: Path) -> None:
    path = write(tmp_path, FIRST)
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 4096)
    assert len(read(path).records) == 2
    path.write_bytes(whole + b'{"v":1,' + b"\0" * 64 + b"\n")
    assert len(read(path).records) == 2


def test_going_on_removes_a_torn_line(tmp_path: Path) -> None:
    path = write(tmp_path, FIRST)
    path.write_bytes(path.read_bytes() + b'{"v":1,"unix')
    operation = read(path)
    journal = Journal.resume(operation, Began(command="recover", program="1"))
    journal.entered(LATER)
    journal.close()
    again = read(path)
    assert again.state == LATER
    assert (again.command, len(again.records)) == ("migrate", 4)


@pytest.mark.parametrize("damage", [b"rubbish\n", b'{"v":99}\n', b'{"v":1,"unix_s":0}\n'])
def test_a_damaged_line_in_between_is_not_passed_over(tmp_path: Path, damage: bytes) -> None:
    path = write(tmp_path, FIRST)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + damage + lines[1])
    with pytest.raises(ConflictError, match="line 2"):
        newest(tmp_path)


def test_nothing_begins_while_an_operation_has_not_finished(tmp_path: Path) -> None:
    write(tmp_path, FIRST)
    with pytest.raises(ConflictError, match="an earlier migrate did not finish") as refused:
        Journal.begin(tmp_path, BEGAN)
    assert refused.value.hint is not None
    assert "guestagent-host recover" in refused.value.hint


@pytest.mark.parametrize("phase", list(Phase))
def test_an_operation_has_finished_in_a_final_phase_that_is_known(
    tmp_path: Path, phase: Phase
) -> None:
    operation = read(write(tmp_path, replace(LATER, phase=phase)))
    assert operation.finished is (phase in {Phase.DONE, Phase.UNDONE, Phase.FAILED})


def test_an_operation_of_which_nothing_was_entered_has_touched_nothing(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert read(path).finished
    path.write_bytes(b"")
    assert read(path).finished


def test_the_oldest_operations_are_dropped(tmp_path: Path) -> None:
    end = replace(FIRST, phase=Phase.DONE)
    written = [write(tmp_path, end) for _ in range(KEPT_OPERATIONS + 3)]
    assert operations(tmp_path) == [int(path.stem) for path in written[3:]]


def test_only_its_user_reads_it(tmp_path: Path) -> None:
    assert write(tmp_path).stat().st_mode & 0o777 == 0o600


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal.begin(tmp_path, BEGAN)
    whole = journal.path.read_bytes()
    real = os.write

    def write_half(descriptor: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(28, "No space left on device")
        return real(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", write_half)
    with pytest.raises(SystemLacksError, match="No space left"):
        journal.entered(FIRST)
    monkeypatch.undo()
    assert journal.path.read_bytes() == whole
    journal.entered(FIRST)
    journal.close()
    assert read(journal.path).state == FIRST


def test_a_line_that_read_would_refuse_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.begin(tmp_path, BEGAN)
    begun = journal.path.read_bytes()
    monkeypatch.setattr("guestagent.host.store.journal.MAX_LINE_BYTES", 100)
    with pytest.raises(SystemLacksError, match="no room for a line"):
        journal.entered(FIRST)
    monkeypatch.undo()
    monkeypatch.setattr("guestagent.host.store.journal.MAX_BYTES", len(begun) + 50)
    with pytest.raises(SystemLacksError, match="no room for a line"):
        journal.entered(FIRST)
    journal.close()
    assert journal.path.read_bytes() == begun
