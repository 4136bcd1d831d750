"""The state machine of detach, attach and migrate: a table, and ``step`` which looks it up.

``step`` maps a state and the result of its effect to the next state. It performs nothing, so
every pair of phase and event is tested. The effect of a state follows from the state alone
(``effects.effect_of``), so an operation can be resumed from a state in the journal.

Rule for every failure: query both ends before anything else is done (phase DECIDE), and act
on their answers.

TRANSITIONS is the one copy of the table: the documentation's is generated from it (``python -m
tests.lint.state_table``), and tests check that ``step`` leads into exactly these phases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from guestagent.errors import InternalError
from guestagent.host.migration import arrival, departure
from guestagent.host.migration.decision import decide
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
from guestagent.host.migration.state import Phase, State

P = Phase
Phases = frozenset[Phase]
Handler = Callable[[State, Any], State]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """``handle`` maps an event to a state in one of the phases ``to``; ``note`` says in which."""

    handle: Handler
    to: Phases
    note: str = ""


# Groups of phases: any of them may follow, as those between may be left out.
_TO_DONE: Phases = frozenset({P.TIDY, P.DONE})
_TO_MISSED: Phases = frozenset({P.TIDY, P.FAILED, P.UNDONE})
_MOVE: Phases = frozenset({P.PREPARED, P.LAUNCH})
_LEAVE: Phases = frozenset({P.SWITCH, P.DETACH, P.WITHDRAW}) | _MOVE
_NOT_ATTACHED: Phases = frozenset({P.RETURN, P.TIDY, P.FAILED})
_NEXT_VF: Phases = frozenset({P.PROGRAM, P.ATTACH})
_RESTORE_NEXT: Phases = frozenset({P.REPROGRAM, P.RESTORE})
_RESTORED: Phases = frozenset({P.RETURN}) | _TO_MISSED
_ATTACH: Phases = _NEXT_VF | _NOT_ATTACHED | {P.CONFIRM, P.DONE}


def _to(handle: Handler, to: Phases | set[Phase], note: str = "") -> Transition:
    return Transition(handle=handle, to=frozenset(to), note=note)


def _failed(handle: Handler, to: Phases | set[Phase]) -> Mapping[type[Event], Transition]:
    return dict.fromkeys((Rejected, OutcomeUnknown), _to(handle, to))


TRANSITIONS: Mapping[Phase, Mapping[type[Event], Transition]] = {
    P.PREPARE: {
        BothViews: _to(
            departure.prepared,
            {P.RESERVE, P.FAILED, P.ATTACH, P.CONFIRM, P.DONE} | _LEAVE,
            "FAILED if an end is not ready; RESERVE if this program manages a VF",
        ),
        Cancel: _to(departure.cancel_unchanged, {P.FAILED}),
    },
    P.RESERVE: {
        Succeeded: _to(departure.claimed, _LEAVE | _NEXT_VF),
        NoVfAvailable: _to(
            departure.claimed_in_part, _LEAVE | _NEXT_VF | {P.TIDY}, "without those VFs"
        ),
        **_failed(departure.not_claimed, {P.TIDY}),
        Cancel: _to(departure.cancel_unchanged, {P.TIDY}),
    },
    P.SWITCH: {
        Succeeded: _to(departure.switched, {P.DETACH}),
        Rejected: _to(
            departure.not_switched, {P.DETACH, P.RETURN}, "RETURN if the guest must agree"
        ),
        OutcomeUnknown: _to(departure.not_switched, {P.DETACH}),
        Cancel: _to(departure.cancel_before_move, {P.DECIDE}),
    },
    P.DETACH: {
        Succeeded: _to(
            departure.unplugged,
            {P.DETACH, P.WITHDRAW, P.DECIDE, P.DONE} | _MOVE,
            "DETACH for the next VF; DECIDE if a rollback counts as success",
        ),
        Rejected: _to(departure.unplug_refused, {P.DETACH, P.DECIDE}, "once more, then DECIDE"),
        OutcomeUnknown: _to(departure.unplug_unknown, {P.DECIDE}),
        Cancel: _to(departure.cancel_before_move, {P.DECIDE}),
    },
    P.WITHDRAW: {
        Succeeded: _to(departure.vfs_reset, _MOVE | _TO_DONE),
        **_failed(departure.vfs_not_reset, {P.DECIDE}),
        Cancel: _to(departure.cancel_before_move, {P.DECIDE}),
    },
    P.LAUNCH: {
        Succeeded: _to(departure.launched, {P.MIGRATE}),
        **_failed(departure.not_launched, {P.DECIDE}),
        Cancel: _to(departure.cancel_before_move, {P.DECIDE}),
    },
    P.MIGRATE: {
        Succeeded: _to(departure.asked, {P.DECIDE}),
        OutcomeUnknown: _to(departure.asked_with_warning, {P.DECIDE}),
        TimedOut: _to(
            departure.migration_timed_out,
            {P.CANCEL, P.UNKNOWN},
            "UNKNOWN if it was being cancelled",
        ),
        Cancel: _to(departure.cancel_migration, {P.CANCEL, P.MIGRATE}),
    },
    P.CANCEL: {
        Succeeded: _to(departure.cancel_sent, {P.MIGRATE}),
        Rejected: _to(departure.cancel_refused, {P.MIGRATE}),
        OutcomeUnknown: _to(departure.asked_with_warning, {P.DECIDE}),
    },
    P.DECIDE: {
        BothViews: _to(
            decide,
            {P.DECIDE, P.PREPARED, P.CANCEL, P.MIGRATE, P.RESUME, P.UNKNOWN}
            | _ATTACH
            | _RESTORE_NEXT
            | _RESTORED,
            "guest at the target: PROGRAM or ATTACH; at home: REPROGRAM or RESTORE; stopped where"
            " it is provably alone: RESUME; moving: MIGRATE, or DECIDE again; not provable:"
            " DECIDE again, then UNKNOWN; moved by another program: PREPARED until it has arrived",
        ),
        Cancel: _to(departure.cancel_decision, {P.DECIDE}),
    },
    P.RESUME: {
        Succeeded: _to(departure.asked, {P.DECIDE}),
        **_failed(departure.asked_with_warning, {P.DECIDE}),
    },
    P.PROGRAM: {
        Succeeded: _to(arrival.programmed, {P.ATTACH}),
        Rejected: _to(arrival.try_again, _NEXT_VF | _NOT_ATTACHED, "once more, then the next VF"),
        OutcomeUnknown: _to(arrival.attempt_unknown, {P.DECIDE}),
        Cancel: _to(arrival.cancel_attach, _NOT_ATTACHED),
    },
    P.ATTACH: {
        Succeeded: _to(arrival.plugged, _ATTACH, "the next VF, then CONFIRM"),
        Rejected: _to(
            arrival.try_again,
            _NEXT_VF | _NOT_ATTACHED,
            "once more, then the next VF, then RETURN",
        ),
        OutcomeUnknown: _to(arrival.attempt_unknown, {P.DECIDE}),
        Cancel: _to(arrival.cancel_attach, _NOT_ATTACHED),
    },
    P.REPROGRAM: {
        Succeeded: _to(arrival.programmed, {P.RESTORE}),
        Rejected: _to(
            arrival.try_again,
            _RESTORE_NEXT | {P.RETURN, P.TIDY},
            "once more, then the next VF",
        ),
        OutcomeUnknown: _to(arrival.attempt_unknown, {P.DECIDE}),
    },
    P.RESTORE: {
        Succeeded: _to(arrival.plugged, _RESTORE_NEXT | _RESTORED, "the next VF, then RETURN"),
        Rejected: _to(
            arrival.try_again,
            _RESTORE_NEXT | _NOT_ATTACHED,
            "once more, then the next VF, then RETURN",
        ),
        OutcomeUnknown: _to(arrival.attempt_unknown, {P.DECIDE}),
    },
    P.CONFIRM: {
        Succeeded: _to(arrival.confirmed, _TO_DONE),
        **_failed(arrival.not_confirmed, _TO_DONE),
        Cancel: _to(arrival.cancel_confirmation, _TO_DONE),
    },
    P.RETURN: {
        Succeeded: _to(arrival.returned, _TO_MISSED, "UNDONE if a rollback counts as success"),
        **_failed(arrival.not_returned, _TO_MISSED),
    },
    P.TIDY: {
        Succeeded: _to(arrival.tidied, {P.DONE, P.FAILED, P.UNDONE}, "the end that was reached"),
        **_failed(arrival.not_tidied, {P.DONE, P.FAILED, P.UNDONE}),
    },
}
"""By phase and event. A phase without a Cancel row ignores a cancellation."""


def step(state: State, event: Event) -> State:
    """Return the state that follows when ``event`` happened in ``state``.

    Raises InternalError for an event that the state's effect cannot have.
    """
    transition = TRANSITIONS.get(state.phase, {}).get(type(event))
    if transition is not None:
        return transition.handle(state, event)
    if isinstance(event, Cancel):
        return state
    raise InternalError(f"{type(event).__name__} cannot happen in phase {state.phase}")
