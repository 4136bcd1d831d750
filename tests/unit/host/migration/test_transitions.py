"""Every phase with every event: where it leads, or that it cannot be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from guestagent.errors import InternalError
from guestagent.findings import Finding
from guestagent.host.migration.effects import (
    CancelMigration,
    ClaimVfs,
    Cleanup,
    ConfigureVf,
    Effect,
    FailbackToVf,
    FailoverToStandby,
    FollowMigration,
    Plug,
    PollState,
    ResetVfs,
    ResumeGuest,
    StartMigration,
    Unplug,
    effect_of,
)
from guestagent.host.migration.events import (
    BothViews,
    Cancel,
    Event,
    NoVfAvailable,
    OutcomeUnknown,
    Rejected,
    Succeeded,
    TimedOut,
)
from guestagent.host.migration.state import Goal, Limits, Phase, State
from guestagent.host.migration.transitions import step
from guestagent.host.model import End, QemuState

LIMITS = Limits(unplug_requests=2, attach_tries=2)

SOURCE_RUNS = QemuState(end=End.SOURCE, run_state="running", devices=frozenset({"vf0"}))
SOURCE_LEFT = QemuState(end=End.SOURCE, run_state="postmigrate", migration="completed")
WAITS = QemuState(end=End.DESTINATION, run_state="inmigrate")
ARRIVED = QemuState(end=End.DESTINATION, run_state="running", migration="completed")


def plain(phase: Phase) -> State:
    """Return a state of a command that leaves the VFs to others."""
    return replace(state(phase), home_managed=(), target_managed=(), programmed=(), reserved=False)


def state(phase: Phase, *, goal: Goal = Goal.MIGRATE) -> State:
    """Return a state in which ``phase`` has its effect under way; VFs are claimed here."""
    return State(
        goal=goal,
        phase=phase,
        home=End.SOURCE,
        home_vfs=("vf0", "vf1"),
        target_vfs=("vf0", "vf1"),
        limits=LIMITS,
        todo=("vf0", "vf1"),
        attached=("vf0", "vf1"),
        sent=phase in {Phase.MIGRATE, Phase.CANCEL, Phase.RESUME, Phase.ATTACH},
        guest_at=End.SOURCE,
        reachable=frozenset(End),
        switched=phase not in {Phase.PREPARE, Phase.SWITCH},
        reserved=phase is not Phase.PREPARE,
        operation="1",
        home_managed=("vf0", "vf1"),
        target_managed=("vf0", "vf1"),
        programmed=("vf0",) if phase in {Phase.ATTACH, Phase.RESTORE} else (),
        ending=Phase.DONE if phase is Phase.TIDY else None,
    )


def follow(current: State, event: Event) -> tuple[State, Effect | None]:
    """Return the state that follows, and its effect."""
    following = step(current, event)
    return following, effect_of(following)


SEEN = BothViews(home=SOURCE_RUNS, away=WAITS)
DONE, CANCEL = Succeeded(), Cancel()
LACKING = NoVfAvailable(vfs=("vf1",), detail="none is free")
REFUSED, LOST, OVERDUE = (
    Rejected(detail="no"),
    OutcomeUnknown(detail="gone"),
    TimedOut(detail="late"),
)
EVENTS: tuple[Event, ...] = (SEEN, DONE, LACKING, REFUSED, LOST, OVERDUE, CANCEL)

# Rows: phase. Columns: SEEN, DONE, LACKING, REFUSED, LOST, OVERDUE, CANCEL. None: cannot be.
P = Phase
TABLE: dict[Phase, tuple[Phase | None, ...]] = {
    P.PREPARE: (P.RESERVE, None, None, None, None, None, P.FAILED),
    P.RESERVE: (None, P.SWITCH, P.SWITCH, P.TIDY, P.TIDY, None, P.TIDY),
    P.SWITCH: (None, P.DETACH, None, P.DETACH, P.DETACH, None, P.DECIDE),
    P.DETACH: (None, P.DETACH, None, P.DETACH, P.DECIDE, None, P.DECIDE),
    P.WITHDRAW: (None, P.LAUNCH, None, P.DECIDE, P.DECIDE, None, P.DECIDE),
    P.PREPARED: (None, None, None, None, None, None, P.PREPARED),
    P.LAUNCH: (None, P.MIGRATE, None, P.DECIDE, P.DECIDE, None, P.DECIDE),
    P.MIGRATE: (None, P.DECIDE, None, None, P.DECIDE, P.CANCEL, P.CANCEL),
    P.CANCEL: (None, P.MIGRATE, None, P.MIGRATE, P.DECIDE, None, P.CANCEL),
    P.DECIDE: (P.REPROGRAM, None, None, None, None, None, P.DECIDE),
    P.RESUME: (None, P.DECIDE, None, P.DECIDE, P.DECIDE, None, P.RESUME),
    P.PROGRAM: (None, P.ATTACH, None, P.PROGRAM, P.DECIDE, None, P.RETURN),
    P.ATTACH: (None, P.PROGRAM, None, P.ATTACH, P.DECIDE, None, P.RETURN),
    P.REPROGRAM: (None, P.RESTORE, None, P.REPROGRAM, P.DECIDE, None, P.REPROGRAM),
    P.RESTORE: (None, P.REPROGRAM, None, P.RESTORE, P.DECIDE, None, P.RESTORE),
    P.CONFIRM: (None, P.TIDY, None, P.TIDY, P.TIDY, None, P.TIDY),
    P.RETURN: (None, P.TIDY, None, P.TIDY, P.TIDY, None, P.RETURN),
    P.TIDY: (None, P.DONE, None, P.DONE, P.DONE, None, P.TIDY),
    P.DONE: (None, None, None, None, None, None, P.DONE),
    P.UNDONE: (None, None, None, None, None, None, P.UNDONE),
    P.FAILED: (None, None, None, None, None, None, P.FAILED),
    P.UNKNOWN: (None, None, None, None, None, None, P.UNKNOWN),
}
EFFECTS = {
    P.PREPARE: PollState,
    P.RESERVE: ClaimVfs,
    P.WITHDRAW: ResetVfs,
    P.PROGRAM: ConfigureVf,
    P.REPROGRAM: ConfigureVf,
    P.TIDY: Cleanup,
    P.SWITCH: FailoverToStandby,
    P.DETACH: Unplug,
    P.LAUNCH: StartMigration,
    P.MIGRATE: FollowMigration,
    P.CANCEL: CancelMigration,
    P.DECIDE: PollState,
    P.RESUME: ResumeGuest,
    P.ATTACH: Plug,
    P.RESTORE: Plug,
    P.CONFIRM: FailbackToVf,
    P.RETURN: FailbackToVf,
}


def test_the_table_has_every_phase_and_every_event() -> None:
    assert set(TABLE) == set(Phase)
    assert {type(event) for event in EVENTS} == set(Event.__args__)


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("column", range(len(EVENTS)))
def test_every_pair_leads_where_the_table_says(phase: Phase, column: int) -> None:
    expected = TABLE[phase][column]
    if expected is None:
        with pytest.raises(InternalError, match="cannot happen"):
            step(state(phase), EVENTS[column])
        return
    following, effect = follow(state(phase), EVENTS[column])
    assert following.phase is expected
    assert type(effect) is EFFECTS.get(expected, type(None))


@pytest.mark.parametrize("phase", list(Phase))
def test_only_a_final_phase_has_no_effect(phase: Phase) -> None:
    assert (effect_of(state(phase)) is None) is phase.final


# --- what is repeated is bounded ------------------------------------------------------------


def test_the_last_refusal_of_an_unplug_leads_to_a_look() -> None:
    once = replace(plain(Phase.DETACH), tries=LIMITS.unplug_requests - 1)
    following = step(once, REFUSED)
    assert following.phase is Phase.DECIDE
    assert following.problem is not None


def test_a_repeated_unplug_waits_five_seconds() -> None:
    _, effect = follow(plain(Phase.DETACH), REFUSED)
    assert effect == Unplug(end=End.SOURCE, vf="vf0", after_s=5.0)


def test_attaching_backs_off_and_goes_on_with_the_next_vf() -> None:
    following, effect = follow(plain(Phase.ATTACH), REFUSED)
    assert effect == Plug(end=End.DESTINATION, vf="vf0", after_s=1.0)
    following, effect = follow(following, REFUSED)
    assert following.not_attached == ("vf0",)
    assert effect == Plug(end=End.DESTINATION, vf="vf1")


@pytest.mark.parametrize("goal", list(Goal))
def test_no_failure_repeats_for_ever(goal: Goal) -> None:
    """Whatever always fails, the machine ends: here nothing is ever achieved or proved."""
    blind = QemuState(end=End.SOURCE, unreachable="silent")
    answers: dict[Phase, Event] = {
        Phase.PREPARE: BothViews(
            home=replace(SOURCE_RUNS, devices=frozenset({"vf0"} if goal is Goal.DETACH else ())),
            away=WAITS if goal is Goal.MIGRATE else None,
        ),
        Phase.DECIDE: BothViews(home=blind, away=WAITS),
        Phase.MIGRATE: OVERDUE,
        Phase.CANCEL: REFUSED,
    }
    current = State(
        goal=goal,
        phase=Phase.PREPARE,
        home=End.SOURCE,
        home_vfs=("vf0",),
        target_vfs=("vf0",),
        limits=LIMITS,
    )
    for _ in range(100):
        if effect_of(current) is None:
            break
        current = step(current, answers.get(current.phase, LOST))
    assert current.phase is Phase.UNKNOWN


# --- the agent in the guest -----------------------------------------------------------------


def test_a_guest_that_cannot_be_asked_is_unplugged_with_a_warning() -> None:
    unreachable = replace(plain(Phase.PREPARE), reachable=frozenset())
    following = step(unreachable, SEEN)
    assert following.phase is Phase.DETACH
    assert following.switched is False
    assert "could not be asked" in following.warnings[-1]


def test_a_guest_that_refuses_keeps_its_vf_only_where_it_must_agree() -> None:
    following = step(plain(Phase.SWITCH), REFUSED)
    assert following.phase is Phase.DETACH
    strict = replace(plain(Phase.SWITCH), limits=replace(LIMITS, guest_must_agree=True))
    following, effect = follow(replace(strict, attached=("vf0", "vf1")), REFUSED)
    assert effect == FailbackToVf(end=End.SOURCE, vfs=("vf0", "vf1")), (
        "it may have left one of them"
    )
    assert step(following, DONE).phase is Phase.FAILED
    following = step(strict, LOST)
    assert following.phase is Phase.DETACH, "silence is no refusal"


def test_the_guest_is_asked_whether_it_uses_the_vf_it_was_given() -> None:
    last = replace(plain(Phase.ATTACH), todo=("vf1",), attached=("vf0",), guest_at=End.DESTINATION)
    following, effect = follow(last, DONE)
    assert effect == FailbackToVf(end=End.DESTINATION, vfs=("vf0", "vf1"))
    assert step(following, DONE).confirmed is True
    unsure = step(following, LOST)
    assert (unsure.phase, unsure.confirmed) == (Phase.DONE, False)
    assert unsure.warnings


def test_a_guest_that_left_its_vf_is_asked_to_return_when_the_unplug_fails() -> None:
    whole = replace(SOURCE_RUNS, devices=frozenset({"vf0", "vf1"}))
    refused = replace(plain(Phase.DETACH), tries=LIMITS.unplug_requests - 1)
    deciding = step(refused, REFUSED)
    following, effect = follow(deciding, BothViews(home=whole, away=WAITS))
    assert effect == FailbackToVf(end=End.SOURCE, vfs=("vf0", "vf1"))
    assert step(following, DONE).phase is Phase.FAILED


@pytest.mark.parametrize("switched", [None, False])
def test_a_guest_that_may_have_left_its_vf_is_asked_to_return(*, switched: bool | None) -> None:
    """False: it did not answer when it was asked. None: it was not asked."""
    whole = replace(SOURCE_RUNS, devices=frozenset({"vf0", "vf1"}))
    deciding = replace(plain(Phase.DECIDE), switched=switched)
    following = step(deciding, BothViews(home=whole, away=WAITS))
    assert following.phase is (Phase.FAILED if switched is None else Phase.RETURN)


# --- DECIDE ---------------------------------------------------------------------------------


def test_a_guest_that_arrived_gets_only_the_vfs_it_lacks() -> None:
    here = replace(ARRIVED, devices=frozenset({"vf0"}))
    following, effect = follow(plain(Phase.DECIDE), BothViews(home=SOURCE_LEFT, away=here))
    assert effect == Plug(end=End.DESTINATION, vf="vf1")
    assert following.attached == ("vf0",)


def test_a_stopped_guest_is_let_run_only_after_this_command_sent_it() -> None:
    stopped = QemuState(end=End.SOURCE, run_state="paused", migration="failed")
    gone = QemuState(end=End.DESTINATION, unreachable="refused", gone=True)
    seen = BothViews(home=stopped, away=gone)
    _, effect = follow(replace(plain(Phase.DECIDE), sent=True), seen)
    assert effect == ResumeGuest(end=End.SOURCE)
    following = step(plain(Phase.DECIDE), seen)
    assert following.phase is Phase.RESTORE


def test_a_migration_found_under_way_is_followed_if_it_is_ours() -> None:
    moving = QemuState(end=End.SOURCE, run_state="running", migration="active")
    loading = replace(WAITS, migration="active")
    following = step(replace(plain(Phase.DECIDE), sent=True), BothViews(home=moving, away=loading))
    assert following.phase is Phase.MIGRATE
    following = step(plain(Phase.DECIDE), BothViews(home=moving, away=loading))
    assert following.phase is Phase.DECIDE


def test_the_first_problem_is_reported() -> None:
    first = replace(plain(Phase.DECIDE), problem=Finding(message="first", hint="do"))
    whole = replace(SOURCE_RUNS, devices=frozenset({"vf0", "vf1"}))
    following = step(first, BothViews(home=whole, away=WAITS))
    assert following.phase is Phase.RETURN
    assert following.problem == first.problem


def test_an_arrival_is_waited_for_but_not_for_ever() -> None:
    loading = replace(WAITS, migration="active")
    seen = BothViews(home=SOURCE_LEFT, away=loading)
    current = plain(Phase.DECIDE)
    for _ in range(LIMITS.polls):
        current, effect = follow(current, seen)
        assert effect == PollState(after_s=LIMITS.poll_pause_s)
    current = step(current, seen)
    assert current.phase is Phase.UNKNOWN
    assert current.guest_at is None
