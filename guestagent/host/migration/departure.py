"""The phases until the guest moves: PREPARE to CANCEL. Pure; see ``transitions``."""

from __future__ import annotations

from dataclasses import replace

from guestagent.findings import Finding
from guestagent.host.migration import ends, events
from guestagent.host.migration.decision import CANCELLED
from guestagent.host.migration.readiness import not_ready
from guestagent.host.migration.state import Goal, Phase, State

SEE_VFS = "guestagent-host vf list shows the owner of each VF"
_TRY_AGAIN = "as far as could be seen nothing was left half done: inspect, then try again"

# --- PREPARE and RESERVE --------------------------------------------------------------------


def prepared(state: State, seen: events.BothViews) -> State:
    """Check that the goal can be begun, and claim VFs where any is managed by this program."""
    home_has = seen.home.devices
    present = tuple(vf for vf in state.home_vfs if vf in home_has)
    state = replace(
        state,
        home_vfs=present,
        attached=present,
        guest_at=state.home if seen.home.running else None,
    )
    problem = not_ready(state, seen)
    if problem is not None:
        return ends.fail(state, problem)
    match state.goal:
        case Goal.ATTACH:
            missing = tuple(vf for vf in state.target_vfs if vf not in home_has)
            return _reserve(replace(state, todo=missing), missing)
        case Goal.MIGRATE if not state.target_vfs:
            state = ends.warned(
                state, "the destination describes no VF: the guest runs un-accelerated there"
            )
        case Goal.DETACH if not present:
            state = ends.warned(state, f"{state.home}: the guest has none of the described VFs")
    concerned = present if state.goal is Goal.DETACH else (*present, *state.target_vfs)
    return _reserve(replace(state, todo=present), concerned)


def _reserve(state: State, vfs: tuple[str, ...]) -> State:
    if set(vfs) & {*state.home_managed, *state.target_managed}:
        return replace(state, phase=Phase.RESERVE, reserved=True)
    return claimed(state)


def claimed(state: State, _: events.Succeeded | None = None) -> State:
    """Make the first change to the guest."""
    if state.goal is Goal.ATTACH:
        return ends.plug(replace(state, phase=Phase.ATTACH))
    if state.todo and state.home in state.reachable:
        return replace(state, phase=Phase.SWITCH)
    if state.todo:
        return _detach_unprepared(state, "no way to its agent is described")
    return _detach(replace(state, phase=Phase.DETACH))


def claimed_in_part(state: State, event: events.NoVfAvailable) -> State:
    """Continue without the VFs that are not available at the target."""
    if state.goal is Goal.ATTACH:
        todo = tuple(vf for vf in state.todo if vf not in event.vfs)
        return claimed(
            ends.warned(replace(state, todo=todo, not_attached=event.vfs), event.detail)
        )
    left = tuple(vf for vf in state.target_vfs if vf not in event.vfs)
    warning = f"the guest will run un-accelerated at the destination: {event.detail}"
    return claimed(ends.warned(replace(state, target_vfs=left), warning))


def not_claimed(state: State, event: events.Rejected | events.OutcomeUnknown) -> State:
    """Fail before anything was changed in the guest."""
    return ends.fail(state, Finding(message=event.detail, hint=SEE_VFS))


# --- SWITCH, DETACH and WITHDRAW ------------------------------------------------------------


def switched(state: State, _: events.Succeeded) -> State:
    """Unplug the VFs: the guest does not use them any more."""
    return replace(state, phase=Phase.DETACH, switched=True)


def not_switched(state: State, event: events.Rejected | events.OutcomeUnknown) -> State:
    """Unplug the VFs all the same, unless the guest refused and has to agree."""
    if isinstance(event, events.Rejected) and state.limits.guest_must_agree:
        refusal = Finding(
            message=event.detail,
            hint="see `guestagent status` in the guest, or set guest_must_agree = false to"
            " continue without its agreement",
        )
        return ends.fail_and_restore(replace(state, switched=False), refusal)
    return _detach_unprepared(state, event.detail)


def _detach_unprepared(state: State, detail: str) -> State:
    warning = (
        "the guest could not be asked to leave the VF first, so packets that its driver drops"
        f" while the VF is removed are lost: {detail}"
    )
    return replace(ends.warned(state, warning), phase=Phase.DETACH, switched=False)


def unplugged(state: State, _: events.Succeeded) -> State:
    """Unplug the next VF; an interrupted operation asks first where the guest is."""
    gone = state.todo[0]
    attached = tuple(vf for vf in state.attached if vf != gone)
    state = replace(state, attached=attached, todo=state.todo[1:], tries=0)
    return ends.query_ends(state) if state.rollback_is_success else _detach(state)


def unplug_refused(state: State, event: events.Rejected) -> State:
    """Ask the guest once more, up to the limit."""
    state = _with_unplug_pending(replace(state, tries=state.tries + 1))
    if state.tries < state.limits.unplug_requests:
        return state
    problem = Finding(
        message=f"{event.detail}, after {state.tries} requests: the guest keeps the VF",
        hint="find out what uses the device in the guest, or whether the guest hangs; once it"
        " works again it may still release the VF: inspect, and attach if it has gone",
    )
    return ends.query_ends(state, problem)


def unplug_unknown(state: State, event: events.OutcomeUnknown) -> State:
    """Ask both ends; the guest may still release the VF."""
    return ends.query_ends(
        _with_unplug_pending(state), Finding(message=event.detail, hint=_TRY_AGAIN)
    )


def _with_unplug_pending(state: State) -> State:
    """Record that the guest has a request to release the VF and may still follow it."""
    pending = tuple(dict.fromkeys((*state.unplug_pending, state.todo[0])))
    return replace(state, unplug_pending=pending)


def _detach(state: State) -> State:
    if state.todo:
        return state
    if {*state.home_vfs} & {*state.home_managed} or state.target_managed:
        return replace(state, phase=Phase.WITHDRAW)
    return vfs_reset(state)


def vfs_reset(state: State, _: events.Succeeded | None = None) -> State:
    """Move the guest, or let the program that ordered the preparation move it."""
    if state.goal is Goal.MIGRATE:
        return replace(state, phase=Phase.PREPARED if state.orchestrated else Phase.LAUNCH)
    return ends.finish(state, Phase.DONE)


def vfs_not_reset(state: State, event: events.Rejected | events.OutcomeUnknown) -> State:
    """Ask both ends, and so give the VFs back."""
    return ends.query_ends(state, Finding(message=event.detail, hint=SEE_VFS))


# --- LAUNCH, MIGRATE and CANCEL -------------------------------------------------------------


def launched(state: State, _: events.Succeeded) -> State:
    """Follow the migration."""
    return replace(state, phase=Phase.MIGRATE, sent=True)


def not_launched(state: State, event: events.Rejected | events.OutcomeUnknown) -> State:
    """Ask both ends; after a lost answer the migration may be under way."""
    sent = state.sent or isinstance(event, events.OutcomeUnknown)
    problem = Finding(
        message=f"the migration did not begin: {event.detail}",
        hint="check uri and listen in [destination]; a destination QEMU accepts one attempt only",
    )
    return ends.query_ends(replace(state, sent=sent), problem)


def asked(state: State, _: events.Succeeded) -> State:
    """Ask both ends where the guest is now."""
    return ends.query_ends(state)


def asked_with_warning(state: State, event: events.Rejected | events.OutcomeUnknown) -> State:
    """Ask both ends where the guest is now; the failure itself is only a warning."""
    return ends.query_ends(ends.warned(state, event.detail))


def migration_timed_out(state: State, event: events.TimedOut) -> State:
    """Cancel the migration; a cancelled one that does not end leaves the guest unproved."""
    if state.cancelling:
        return ends.end_unproved(state, f"the migration does not end: {event.detail}")
    problem = Finding(
        message=event.detail,
        hint="raise timeout_s, downtime_limit_ms or bandwidth_limit_mib_per_s in [migration]",
    )
    return replace(state, phase=Phase.CANCEL, cancelling=True, problem=problem)


def cancel_sent(state: State, _: events.Succeeded) -> State:
    """Follow the migration to its end."""
    return replace(state, phase=Phase.MIGRATE)


def cancel_refused(state: State, event: events.Rejected) -> State:
    """Follow the migration, which QEMU does not cancel any more."""
    return replace(ends.warned(state, event.detail), phase=Phase.MIGRATE, cancel_refused=True)


# --- the operator cancels -------------------------------------------------------------------


def cancel_unchanged(state: State, _: events.Cancel) -> State:
    """Fail: nothing was changed in the guest yet."""
    return ends.fail(state, CANCELLED)


def cancel_before_move(state: State, _: events.Cancel) -> State:
    """Ask both ends, and so restore the beginning."""
    return ends.query_ends(replace(state, cancelled=True), CANCELLED)


def cancel_migration(state: State, _: events.Cancel) -> State:
    """Cancel the migration, unless it is being cancelled already."""
    if state.cancelling:
        return state
    return replace(state, phase=Phase.CANCEL, cancelled=True, cancelling=True)


def cancel_decision(state: State, _: events.Cancel) -> State:
    """Record the cancellation; the guest's location decides what it leads to."""
    return replace(state, cancelled=True)
