"""How to go on with a command whose process ended under way. Pure.

The state that was written down last tells which effect may have taken place.
Nobody knows whether it did, so every way on begins with a question, to the
QEMUs or to the guest, and none repeats what must not happen twice.

=================== =========================================================================
where it stands     how it goes on
=================== =========================================================================
PREPARE             UNDONE: nothing had been touched
RESERVE             TIDY: give back what may have been claimed, then UNDONE
SWITCH              DECIDE: the guest may have left its VF and is told to return
DETACH              DETACH again: a request may wait in the guest, which would lose a VF
                    that counts as kept; then DECIDE
WITHDRAW … RETURN   DECIDE: follow what still moves, finish what has arrived, undo the rest
PREPARED            DECIDE: whoever moves the guest has given up the rest
TIDY                TIDY again: giving back twice is giving back; then the end that was reached,
                    or UNDONE where all is as before
UNKNOWN             DECIDE: what could not be proved then may be provable now
DONE FAILED UNDONE  it was over, and only that was not written down
=================== =========================================================================
"""

from __future__ import annotations

from dataclasses import replace

from guestagent.host.migration.ends import failure_phase
from guestagent.host.migration.state import Order, Phase, State

_MAY_HAVE_BEEN_SENT = frozenset({Phase.LAUNCH, Phase.MIGRATE, Phase.CANCEL})


def resumed(state: State) -> State:
    """Return the state to go on from; its effect has not begun."""
    fresh = replace(
        state,
        rollback_is_success=True,
        sent=state.sent or state.phase in _MAY_HAVE_BEEN_SENT,
        tries=0,
        polls=0,
        unanswered_polls=0,
        not_attached=(),
        programmed=(),
        cancelling=False,
        cancel_refused=False,
        order=None,
    )
    match state.phase:
        case Phase.PREPARE:
            return replace(fresh, phase=Phase.UNDONE)
        case Phase.SWITCH:
            return replace(fresh, phase=Phase.DECIDE, switched=True)
        case Phase.RESERVE:
            return replace(fresh, phase=Phase.TIDY, ending=Phase.UNDONE)
        case Phase.DETACH:
            return replace(fresh, todo=state.todo[:1])
        case Phase.DONE | Phase.FAILED | Phase.UNDONE:
            return state
        case Phase.TIDY if state.ending is Phase.FAILED:
            undone = replace(state, rollback_is_success=True)
            return replace(undone, ending=failure_phase(undone))
        case Phase.TIDY:
            return state
        case Phase.UNKNOWN | Phase.PREPARED:
            return replace(fresh, phase=Phase.DECIDE, problem=None)
        case _:
            return replace(fresh, phase=Phase.DECIDE)


def ordered(state: State, order: Order) -> State:
    """Return the state in which a prepared migration is completed or taken back."""
    return replace(
        state,
        phase=Phase.DECIDE,
        order=order,
        rollback_is_success=order is Order.ROLLBACK,
        problem=None,
        polls=0,
        unanswered_polls=0,
    )
