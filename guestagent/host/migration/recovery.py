"""Resumption of a command whose process ended before the command did. Pure.

The last state in the journal shows which effect may have happened. Whether it did is not
known, so every resumption begins with a query of the QEMUs or the guest, and none repeats an
effect that must not happen twice.

=================== =========================================================================
phase               resumption
=================== =========================================================================
PREPARE             UNDONE: nothing had been touched
RESERVE             TIDY: release the leases that may exist, then UNDONE
SWITCH              DECIDE: the guest may have left its VF and is asked to return
DETACH              DETACH again: a request may wait in the guest, which would lose a VF
                    that counts as kept; then DECIDE
WITHDRAW … RETURN   DECIDE: follow a migration under way, finish after an arrival, else undo
PREPARED            DECIDE: the program that moves the guest has given up
TIDY                TIDY again: a release may be repeated; then the end that was reached,
                    or UNDONE where the beginning is restored
UNKNOWN             DECIDE: the location of the guest may be provable now
DONE FAILED UNDONE  complete: only the last line was not written
=================== =========================================================================
"""

from __future__ import annotations

from dataclasses import replace

from guestagent.host.migration.ends import failure_phase
from guestagent.host.migration.state import Order, Phase, State

_MAY_HAVE_BEEN_SENT = frozenset({Phase.LAUNCH, Phase.MIGRATE, Phase.CANCEL})


def resumed(state: State) -> State:
    """Return the state to continue from; its effect has not begun."""
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
    """Return the state in which a prepared migration is completed or rolled back."""
    return replace(
        state,
        phase=Phase.DECIDE,
        order=order,
        rollback_is_success=order is Order.ROLLBACK,
        problem=None,
        polls=0,
        unanswered_polls=0,
    )
