"""Where the guest is and what follows: DECIDE, giving VFs, and the ends. Pure; see ``machine``."""

from __future__ import annotations

from dataclasses import replace

from guestagent.findings import Finding
from guestagent.host.migration.guest_location import Owner, location_of
from guestagent.host.migration.state import BothViews, Goal, Order, Phase, State
from guestagent.host.model import End, QemuState

CANCELLED = Finding(message="cancelled by the operator", hint="repeat the command when it suits")
_PLUGGING = frozenset({Phase.PROGRAM, Phase.ATTACH, Phase.REPROGRAM, Phase.RESTORE})
_GIVING_BACK = frozenset({Phase.REPROGRAM, Phase.RESTORE})


def decide_anew(state: State, problem: Finding | None = None) -> State:
    """Ask both sides before anything else; ``problem`` is why, unless another came before."""
    tries = state.tries if state.phase in _PLUGGING else 0
    return replace(
        state, phase=Phase.DECIDE, tries=tries, programmed=(), problem=state.problem or problem
    )


def decide(state: State, seen: BothViews) -> State:
    """Conclude where the guest is, and go on from there."""
    owner = location_of(seen.home, seen.away)
    looked = replace(
        state,
        polls=state.polls + 1,
        unanswered_polls=state.unanswered_polls + 1 if owner is Owner.UNKNOWN else 0,
    )
    if state.rollback_is_success and seen.home.gone and (seen.away is None or seen.away.gone):
        nobody = replace(looked, guest_at=None, attached=())
        return failed(nobody, _nobody_left(seen))
    out_of_polls = looked.polls > state.limits.polls
    out_of_polls |= looked.unanswered_polls > state.limits.unanswered_polls
    if state.orchestrated:
        return _decide_for_another(looked, owner, seen, out_of_polls=out_of_polls)
    return unprovable(looked, _told(seen)) if out_of_polls else _concluded(looked, owner, seen)


def _concluded(looked: State, owner: Owner, seen: BothViews) -> State:
    match owner:
        case Owner.SOURCE:
            return _at_home(looked, seen)
        case Owner.SOURCE_STOPPED:
            if not looked.sent:  # somebody else stopped it, and will know why
                return _at_home(looked, seen)
            return replace(looked, phase=Phase.RESUME, guest_at=looked.home)
        case Owner.DESTINATION:
            return _arrived(looked, seen)
        case Owner.DESTINATION_STOPPED:
            return replace(looked, phase=Phase.RESUME, guest_at=End.DESTINATION)
        case Owner.MOVING if looked.sent and looked.cancelled and not looked.cancelling:
            return replace(looked, phase=Phase.CANCEL, cancelling=True)
        case Owner.MOVING if looked.sent:
            return replace(looked, phase=Phase.MIGRATE)
        case _:
            return looked


def _decide_for_another(
    state: State, owner: Owner, seen: BothViews, *, out_of_polls: bool
) -> State:
    """Go on once the guest, which somebody else moves and starts, runs where it has to."""
    match owner:
        case Owner.SOURCE if state.order is not Order.COMPLETE:
            return _at_home(state, seen)
        case Owner.DESTINATION if state.order is not Order.ROLLBACK:
            return _arrived(state, seen)
        case Owner.SOURCE:
            hint = "migrate it and then complete, or take it back with rollback"
        case Owner.DESTINATION:
            hint = "it has arrived: give it a VF there with complete"
        case Owner.MOVING:
            hint = "try again when its migration has ended"
        case Owner.SOURCE_STOPPED | Owner.DESTINATION_STOPPED:
            hint = "let it run there, and try again"
        case _ if not out_of_polls:
            return state
        case _:
            hint = "find out where it runs, see that it runs nowhere else, and try again"
    problem = Finding(message=f"not yet: {_told(seen)}", hint=hint)
    return replace(state, phase=Phase.PREPARED, problem=problem)


def _at_home(state: State, seen: BothViews) -> State:
    state = replace(state, guest_at=state.home)
    if state.goal is Goal.ATTACH:
        return _plug_missing(state, Phase.ATTACH, state.target_vfs, seen.home)
    if state.cancelled:
        state = replace(state, problem=state.problem or CANCELLED)
    if not state.rollback_is_success:
        reason = f"the migration ended and the guest is still here: {_told(seen)}"
        hint = "read the destination QEMU's log, start it anew with -incoming defer and try again"
        state = replace(state, problem=state.problem or Finding(message=reason, hint=hint))
    return _plug_missing(state, Phase.RESTORE, state.home_vfs, seen.home)


def _arrived(state: State, seen: BothViews) -> State:
    state = replace(state, guest_at=End.DESTINATION, unplug_pending=())
    if state.cancelled or state.problem is not None:
        why = "the cancellation" if state.problem is None else state.problem.message
        state = warned(replace(state, problem=None), f"{why}: the guest had arrived already")
    view = seen.home if seen.away is None else seen.away
    return _plug_missing(state, Phase.ATTACH, state.target_vfs, view)


def _plug_missing(state: State, phase: Phase, vfs: tuple[str, ...], view: QemuState) -> State:
    missing = tuple(vf for vf in vfs if vf not in view.devices and vf not in state.not_attached)
    attached = tuple(vf for vf in vfs if vf in view.devices)
    unplug_pending = tuple(vf for vf in state.unplug_pending if vf in attached)
    tries = state.tries if missing[:1] == state.todo[:1] else 0
    state = replace(
        state, phase=phase, todo=missing, attached=attached, unplug_pending=unplug_pending
    )
    return plug(replace(state, tries=tries))


def plug(state: State) -> State:
    """Go on with the next VF that may still be tried, or end the phase."""
    if state.todo and state.tries >= state.limits.attach_tries:
        not_attached = (*state.not_attached, state.todo[0])
        return plug(replace(state, not_attached=not_attached, todo=state.todo[1:], tries=0))
    back = state.phase in _GIVING_BACK
    if state.todo:
        provided = state.home_managed if back else state.target_managed
        if state.todo[0] in provided and state.todo[0] not in state.programmed:
            return replace(state, phase=Phase.REPROGRAM if back else Phase.PROGRAM)
        return replace(state, phase=Phase.RESTORE if back else Phase.ATTACH)
    lacking = f"{state.guest_at or state.home}: not attached: {', '.join(state.not_attached)}"
    if back:
        return fail_and_restore(warned(state, lacking) if state.not_attached else state)
    if not state.not_attached:
        return _confirm(state)
    return fail_and_restore(
        state,
        Finding(
            message=f"{lacking}; the guest runs there on its standby NIC",
            hint="correct what the warnings say, then: guestagent-host attach --on"
            f" {state.guest_at or state.home} with the same description, and --dest if any",
        ),
    )


# --- the ends -------------------------------------------------------------------------------


def finish(state: State, phase: Phase) -> State:
    """End in ``phase``, after the VFs that the guest does not use were given back."""
    if state.reserved:
        return replace(state, phase=Phase.TIDY, ending=phase)
    return replace(state, phase=phase)


def _confirm(state: State) -> State:
    """End in success, after the guest was asked whether it uses its VFs.

    One that did not answer before is asked as well: its agent may have been busy, and if it
    is dead the guest goes on with its standby.
    """
    asks = state.attached and state.guest_at in state.reachable
    return replace(state, phase=Phase.CONFIRM) if asks else finish(state, Phase.DONE)


def fail_and_restore(state: State, problem: Finding | None = None) -> State:
    """End in failure, after a guest that may have left its VFs, or got one, was told to use them.

    It may have left them when its answer was lost, and some of them when it refused.
    """
    state = replace(state, problem=state.problem or problem)
    concerned = state.switched is not None or state.goal is Goal.ATTACH
    told = concerned and state.attached and state.guest_at in state.reachable
    return replace(state, phase=Phase.RETURN) if told else give_up(state)


def give_up(state: State) -> State:
    """End with the guest where it was; a failure, unless that is an end that was asked for."""
    return finish(state, failure_phase(state))


def failure_phase(state: State) -> Phase:
    """Return which end it is that the goal was given up."""
    undone = state.rollback_is_success and state.guest_at is state.home and not state.not_attached
    return Phase.UNDONE if undone else Phase.FAILED


def failed(state: State, problem: Finding) -> State:
    """End in failure; ``problem`` is why, unless another came before."""
    return finish(replace(state, problem=state.problem or problem), Phase.FAILED)


def unprovable(state: State, told: str) -> State:
    """End without an answer; whatever is reserved stays so."""
    before = "" if state.problem is None else f"{state.problem.message}. "
    return replace(
        state,
        phase=Phase.UNKNOWN,
        guest_at=None,
        problem=Finding(
            message=f"{before}Where the guest runs cannot be proved: {told}",
            hint="nothing more was touched: look at both QEMUs; let the guest run on one side"
            " only, and only after the other QEMU has ended; then: guestagent-host recover with"
            " the same description",
        ),
    )


def warned(state: State, warning: str) -> State:
    """Return the state with one warning more."""
    return replace(state, warnings=(*state.warnings, warning))


def _nobody_left(seen: BothViews) -> Finding:
    return Finding(
        message=f"no guest is left to be helped: {_told(seen)}",
        hint="start the VM anew; nothing is remembered of this operation from now on",
    )


def _told(seen: BothViews) -> str:
    return "; ".join(str(view) for view in (seen.home, seen.away) if view is not None)
