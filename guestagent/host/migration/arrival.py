"""The phases in which the guest gets and confirms its VFs: PROGRAM to TIDY. Pure."""

from __future__ import annotations

from dataclasses import replace

from guestagent.host.migration.ends import failure_phase, finish, plug, query_ends, warned
from guestagent.host.migration.events import Cancel, OutcomeUnknown, Rejected, Succeeded
from guestagent.host.migration.state import Phase, State


def programmed(state: State, _: Succeeded) -> State:
    """Plug the VF that is ready now."""
    return plug(replace(state, programmed=(*state.programmed, state.todo[0]), tries=0))


def plugged(state: State, _: Succeeded) -> State:
    """Continue with the next VF."""
    attached = (*state.attached, state.todo[0])
    return plug(replace(state, attached=attached, todo=state.todo[1:], tries=0))


def try_again(state: State, event: Rejected) -> State:
    """Repeat the attempt, up to the limit; then continue with the next VF."""
    return plug(warned(replace(state, tries=state.tries + 1), event.detail))


def attempt_unknown(state: State, event: OutcomeUnknown) -> State:
    """Ask both ends whether the guest has the VF."""
    return query_ends(warned(replace(state, tries=state.tries + 1), event.detail))


def cancel_attach(state: State, _: Cancel) -> State:
    """Give up the VFs that are not attached yet; the guest stays where it arrived."""
    unfinished = warned(state, "cancelled while the VF was being attached")
    return plug(replace(unfinished, not_attached=state.not_attached + state.todo, todo=()))


def confirmed(state: State, _: Succeeded) -> State:
    """End in success: the guest uses its VFs."""
    return finish(replace(state, confirmed=True), Phase.DONE)


def not_confirmed(state: State, event: Rejected | OutcomeUnknown) -> State:
    """End in success with a warning; the standby stays reachable."""
    warning = (
        "the guest did not confirm that it uses the VF, so traffic for its MAC is still forwarded"
        f" to the standby NIC: {event.detail}"
    )
    return finish(replace(warned(state, warning), confirmed=False), Phase.DONE)


def cancel_confirmation(state: State, _: Cancel) -> State:
    """End in success without waiting for the guest."""
    warning = "cancelled before the guest confirmed that it uses the VF"
    return finish(replace(warned(state, warning), confirmed=False), Phase.DONE)


def returned(state: State, _: Succeeded) -> State:
    """End in failure, or undone: the guest uses its VFs again."""
    return finish(replace(state, confirmed=True), failure_phase(state))


def not_returned(state: State, event: Rejected | OutcomeUnknown) -> State:
    """End as ``returned`` does, with a warning."""
    warning = (
        "the guest could not be asked to use its VF again and returns to it on its own:"
        f" {event.detail}"
    )
    return finish(replace(warned(state, warning), confirmed=False), failure_phase(state))


def tidied(state: State, _: Succeeded) -> State:
    """Enter the end that was reached before the leases were released."""
    return replace(state, phase=state.ending or Phase.FAILED)


def not_tidied(state: State, event: Rejected | OutcomeUnknown) -> State:
    """Enter that end with a warning: some leases are left."""
    warning = f"{event.detail}; see guestagent-host vf list, and vf release once it is free"
    return replace(warned(state, warning), phase=state.ending or Phase.FAILED)
