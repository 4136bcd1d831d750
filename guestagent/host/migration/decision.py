"""Phase DECIDE: where the guest is, and what follows. Pure; see ``transitions``."""

from __future__ import annotations

from dataclasses import replace

from guestagent.findings import Finding
from guestagent.host.migration.ends import end_unproved, fail, plug, warned
from guestagent.host.migration.events import BothViews
from guestagent.host.migration.guest_location import GuestLocation, location_of
from guestagent.host.migration.state import Goal, Order, Phase, State
from guestagent.host.model import End, QemuState

CANCELLED = Finding(message="cancelled by the operator", hint="repeat the command later")


def decide(state: State, seen: BothViews) -> State:
    """Conclude where the guest is, and continue from there."""
    location = location_of(seen.home, seen.away)
    unproved = location is GuestLocation.UNKNOWN
    polled = replace(
        state,
        polls=state.polls + 1,
        unanswered_polls=state.unanswered_polls + 1 if unproved else 0,
    )
    if state.rollback_is_success and seen.home.gone and (seen.away is None or seen.away.gone):
        no_guest_left = Finding(
            message=f"no guest is left: {_describe(seen)}",
            hint="start the VM anew; this operation is over",
        )
        return fail(replace(polled, guest_at=None, attached=()), no_guest_left)
    out_of_polls = polled.polls > state.limits.polls
    out_of_polls |= polled.unanswered_polls > state.limits.unanswered_polls
    if state.orchestrated:
        return _decide_orchestrated(polled, location, seen, out_of_polls=out_of_polls)
    return (
        end_unproved(polled, _describe(seen)) if out_of_polls else _go_on(polled, location, seen)
    )


def _go_on(polled: State, location: GuestLocation, seen: BothViews) -> State:
    match location:
        case GuestLocation.SOURCE:
            return _at_home(polled, seen)
        case GuestLocation.SOURCE_STOPPED:
            if not polled.sent:  # another program stopped it, and knows why
                return _at_home(polled, seen)
            return replace(polled, phase=Phase.RESUME, guest_at=polled.home)
        case GuestLocation.DESTINATION:
            return _at_destination(polled, seen)
        case GuestLocation.DESTINATION_STOPPED:
            return replace(polled, phase=Phase.RESUME, guest_at=End.DESTINATION)
        case GuestLocation.MOVING if polled.sent and polled.cancelled and not polled.cancelling:
            return replace(polled, phase=Phase.CANCEL, cancelling=True)
        case GuestLocation.MOVING if polled.sent:
            return replace(polled, phase=Phase.MIGRATE)
        case _:
            return polled


def _decide_orchestrated(
    state: State, location: GuestLocation, seen: BothViews, *, out_of_polls: bool
) -> State:
    """Continue once the guest runs where the order needs it; another program moves it."""
    match location:
        case GuestLocation.SOURCE if state.order is not Order.COMPLETE:
            return _at_home(state, seen)
        case GuestLocation.DESTINATION if state.order is not Order.ROLLBACK:
            return _at_destination(state, seen)
        case GuestLocation.SOURCE:
            hint = "migrate the guest and then run complete, or undo the preparation with rollback"
        case GuestLocation.DESTINATION:
            hint = "the guest has arrived: give it a VF there with complete"
        case GuestLocation.MOVING:
            hint = "try again when its migration has ended"
        case GuestLocation.SOURCE_STOPPED | GuestLocation.DESTINATION_STOPPED:
            hint = "let the guest run there, and try again"
        case _ if not out_of_polls:
            return state
        case _:
            hint = "find out where the guest runs, make sure that it runs nowhere else, try again"
    problem = Finding(message=f"not yet: {_describe(seen)}", hint=hint)
    return replace(state, phase=Phase.PREPARED, problem=problem)


def _at_home(state: State, seen: BothViews) -> State:
    state = replace(state, guest_at=state.home)
    if state.goal is Goal.ATTACH:
        return _plug_missing(state, Phase.ATTACH, state.target_vfs, seen.home)
    if state.cancelled:
        state = replace(state, problem=state.problem or CANCELLED)
    if not state.rollback_is_success:
        stayed = Finding(
            message=f"the migration ended and the guest is still here: {_describe(seen)}",
            hint="read the log of the destination QEMU, start a new one with -incoming defer and"
            " try again",
        )
        state = replace(state, problem=state.problem or stayed)
    return _plug_missing(state, Phase.RESTORE, state.home_vfs, seen.home)


def _at_destination(state: State, seen: BothViews) -> State:
    state = replace(state, guest_at=End.DESTINATION, unplug_pending=())
    if state.cancelled or state.problem is not None:
        why = "the cancellation" if state.problem is None else state.problem.message
        state = warned(replace(state, problem=None), f"{why}: the guest had arrived already")
    view = seen.home if seen.away is None else seen.away
    return _plug_missing(state, Phase.ATTACH, state.target_vfs, view)


def _plug_missing(state: State, phase: Phase, vfs: tuple[str, ...], view: QemuState) -> State:
    missing = tuple(vf for vf in vfs if vf not in view.devices and vf not in state.not_attached)
    attached = tuple(vf for vf in vfs if vf in view.devices)
    return plug(
        replace(
            state,
            phase=phase,
            todo=missing,
            attached=attached,
            unplug_pending=tuple(vf for vf in state.unplug_pending if vf in attached),
            tries=state.tries if missing[:1] == state.todo[:1] else 0,
        )
    )


def _describe(seen: BothViews) -> str:
    return "; ".join(str(view) for view in (seen.home, seen.away) if view is not None)
