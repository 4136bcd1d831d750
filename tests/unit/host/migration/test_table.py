"""The table of transitions against what ``step`` does in every reachable state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from random import Random

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
from guestagent.host.migration.recovery import ordered, resumed
from guestagent.host.migration.state import Goal, Limits, Order, Phase, State
from guestagent.host.migration.transitions import TRANSITIONS, step
from guestagent.host.model import End, QemuState

LIMITS = Limits(unplug_requests=2, attach_tries=2, polls=1, unanswered_polls=1)
VIEWS = (
    QemuState(end=End.SOURCE, run_state="running"),
    QemuState(end=End.SOURCE, run_state="running", devices=frozenset({"vf0"})),
    QemuState(end=End.SOURCE, run_state="running", devices=frozenset({"vf0", "vf1"})),
    QemuState(end=End.SOURCE, run_state="running", migration="active"),
    QemuState(end=End.SOURCE, run_state="paused", migration="failed"),
    QemuState(end=End.SOURCE, run_state="postmigrate", migration="completed"),
    QemuState(end=End.SOURCE, unreachable="gone", gone=True),
)
OTHER_VIEWS = (
    QemuState(end=End.DESTINATION, run_state="inmigrate"),
    QemuState(end=End.DESTINATION, run_state="running", migration="completed"),
    QemuState(
        end=End.DESTINATION,
        run_state="running",
        migration="completed",
        devices=frozenset({"vf0", "vf1"}),
    ),
    QemuState(end=End.DESTINATION, run_state="paused", migration="completed"),
    QemuState(end=End.DESTINATION, unreachable="gone", gone=True),
)
ANSWERS: Mapping[type[Event], Event] = {
    Succeeded: Succeeded(),
    NoVfAvailable: NoVfAvailable(vfs=("vf0",), detail="none"),
    Rejected: Rejected(detail="no"),
    OutcomeUnknown: OutcomeUnknown(detail="gone"),
    TimedOut: TimedOut(detail="late"),
    Cancel: Cancel(),
}
WALKS, RARE = 40_000, 0.2
Edge = tuple[Phase, type[Event], Phase]


def beginning(dice: Random) -> State:
    """Return the beginning of an operation, at random in all that its course depends on."""
    goal = dice.choice(list(Goal))
    vfs = dice.choice(((), ("vf0",), ("vf0", "vf1")))
    return State(
        goal=goal,
        phase=Phase.PREPARE,
        home=End.SOURCE,
        home_vfs=vfs,
        target_vfs=dice.choice((vfs, ())),
        limits=replace(LIMITS, guest_must_agree=dice.choice((False, True))),
        reachable=frozenset(end for end in End if dice.random() < 0.5),
        orchestrated=goal is Goal.MIGRATE and dice.choice((False, True)),
        home_managed=dice.choice(((), vfs, vfs[:1], vfs[1:])),
        target_managed=dice.choice(((), vfs, vfs[:1], vfs[1:])),
    )


def event_in(state: State, dice: Random) -> Event:
    """Choose an event that the table allows in a state."""
    kinds = list(TRANSITIONS[state.phase])
    kind = dice.choices(kinds, [RARE if each is Cancel else 1 for each in kinds])[0]
    if kind is not BothViews:
        return ANSWERS[kind]
    ready = state.phase is Phase.PREPARE and dice.random() > RARE
    views, others = (VIEWS[:3], OTHER_VIEWS[:1]) if ready else (VIEWS, OTHER_VIEWS)
    other = dice.choice(others) if state.goal is Goal.MIGRATE else None
    return BothViews(home=dice.choice(views), away=other)


def walked(dice: Random) -> Iterator[Edge]:
    """Yield the transitions of one operation, which is interrupted and resumed now and then."""
    state = beginning(dice)
    while not state.phase.final:
        event = event_in(state, dice)
        following = step(state, event)
        yield state.phase, type(event), following.phase
        state = following
        if state.phase is Phase.PREPARED:
            state = ordered(state, dice.choice(list(Order)))
        if dice.random() < RARE and not state.phase.over:
            state = resumed(state)


def test_the_table_has_exactly_the_transitions_that_occur() -> None:
    dice = Random(2)  # noqa: S311 - the same walks in each run
    edges: set[Edge] = set()
    for _ in range(WALKS):
        edges.update(walked(dice))
    table = {
        (phase, kind, after)
        for phase, row in TRANSITIONS.items()
        for kind, transition in row.items()
        for after in transition.to
    }
    assert sorted(edges - table, key=str) == [], "the table lacks them"
    assert sorted(table - edges, key=str) == [], "nothing leads there"
