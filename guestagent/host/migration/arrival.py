"""Where the guest is and what follows: DECIDE, giving VFs, and the ends. Pure; see ``machine``."""

from __future__ import annotations

from dataclasses import replace

from guestagent.host.migration.guest_location import Owner, owner_of
from guestagent.host.migration.state import Goal, Order, Phase, Problem, Seen, State
from guestagent.host.model import Side, View

CANCELLED = Problem(what="cancelled by the operator", hint="repeat the command when it suits")
_PLUGGING = frozenset({Phase.PROGRAM, Phase.ATTACH, Phase.REPROGRAM, Phase.RESTORE})
_GIVING_BACK = frozenset({Phase.REPROGRAM, Phase.RESTORE})


def look_first(state: State, problem: Problem | None = None) -> State:
    """Ask both sides before anything else; ``problem`` is why, unless another came before."""
    tries = state.tries if state.phase in _PLUGGING else 0
    return replace(
        state, phase=Phase.DECIDE, tries=tries, programmed=(), problem=state.problem or problem
    )


def decide(state: State, seen: Seen) -> State:
    """Conclude where the guest is, and go on from there."""
    owner = owner_of(seen.home, seen.away)
    looked = replace(
        state,
        looks=state.looks + 1,
        blind_looks=state.blind_looks + 1 if owner is Owner.UNKNOWN else 0,
    )
    if state.undo and seen.home.gone and (seen.away is None or seen.away.gone):
        nobody = replace(looked, guest_at=None, attached=())
        return failed(nobody, _nobody_left(seen))
    out_of_looks = looked.looks > state.limits.looks
    out_of_looks |= looked.blind_looks > state.limits.blind_looks
    if state.orchestrated:
        return _decide_for_another(looked, owner, seen, out_of_looks=out_of_looks)
    return unprovable(looked, _told(seen)) if out_of_looks else _concluded(looked, owner, seen)


def _concluded(looked: State, owner: Owner, seen: Seen) -> State:
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
            return replace(looked, phase=Phase.RESUME, guest_at=Side.DESTINATION)
        case Owner.MOVING if looked.sent and looked.cancelled and not looked.cancelling:
            return replace(looked, phase=Phase.CANCEL, cancelling=True)
        case Owner.MOVING if looked.sent:
            return replace(looked, phase=Phase.MIGRATE)
        case _:
            return looked


def _decide_for_another(state: State, owner: Owner, seen: Seen, *, out_of_looks: bool) -> State:
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
        case _ if not out_of_looks:
            return state
        case _:
            hint = "find out where it runs, see that it runs nowhere else, and try again"
    problem = Problem(what=f"not yet: {_told(seen)}", hint=hint)
    return replace(state, phase=Phase.PREPARED, problem=problem)


def _at_home(state: State, seen: Seen) -> State:
    state = replace(state, guest_at=state.home)
    if state.goal is Goal.ATTACH:
        return _plug_missing(state, Phase.ATTACH, state.target_vfs, seen.home)
    if state.cancelled:
        state = replace(state, problem=state.problem or CANCELLED)
    if not state.undo:
        reason = f"the migration ended and the guest is still here: {_told(seen)}"
        hint = "read the destination QEMU's log, start it anew with -incoming defer and try again"
        state = replace(state, problem=state.problem or Problem(what=reason, hint=hint))
    return _plug_missing(state, Phase.RESTORE, state.home_vfs, seen.home)


def _arrived(state: State, seen: Seen) -> State:
    state = replace(state, guest_at=Side.DESTINATION, leaving=())
    if state.cancelled or state.problem is not None:
        why = "the cancellation" if state.problem is None else state.problem.what
        state = warned(replace(state, problem=None), f"{why}: the guest had arrived already")
    view = seen.home if seen.away is None else seen.away
    return _plug_missing(state, Phase.ATTACH, state.target_vfs, view)


def _plug_missing(state: State, phase: Phase, vfs: tuple[str, ...], view: View) -> State:
    missing = tuple(vf for vf in vfs if vf not in view.devices and vf not in state.given_up)
    attached = tuple(vf for vf in vfs if vf in view.devices)
    leaving = tuple(vf for vf in state.leaving if vf in attached)
    tries = state.tries if missing[:1] == state.todo[:1] else 0
    state = replace(state, phase=phase, todo=missing, attached=attached, leaving=leaving)
    return plug(replace(state, tries=tries))


def plug(state: State) -> State:
    """Go on with the next VF that may still be tried, or end the phase."""
    if state.todo and state.tries >= state.limits.attach_tries:
        given_up = (*state.given_up, state.todo[0])
        return plug(replace(state, given_up=given_up, todo=state.todo[1:], tries=0))
    back = state.phase in _GIVING_BACK
    if state.todo:
        provided = state.home_provided if back else state.target_provided
        if state.todo[0] in provided and state.todo[0] not in state.programmed:
            return replace(state, phase=Phase.REPROGRAM if back else Phase.PROGRAM)
        return replace(state, phase=Phase.RESTORE if back else Phase.ATTACH)
    lacking = f"{state.guest_at or state.home}: not attached: {', '.join(state.given_up)}"
    if back:
        return sent_back(warned(state, lacking) if state.given_up else state)
    if not state.given_up:
        return _confirm(state)
    return sent_back(
        state,
        Problem(
            what=f"{lacking}; the guest runs there on its standby NIC",
            hint="correct what the warnings say, then: guestagent-host attach --on"
            f" {state.guest_at or state.home} with the same description, and --dest if any",
        ),
    )


# --- the ends -------------------------------------------------------------------------------


def end(state: State, phase: Phase) -> State:
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
    return replace(state, phase=Phase.CONFIRM) if asks else end(state, Phase.DONE)


def sent_back(state: State, problem: Problem | None = None) -> State:
    """End in failure, after a guest that may have left its VFs, or got one, was told to use them.

    It may have left them when its answer was lost, and some of them when it refused.
    """
    state = replace(state, problem=state.problem or problem)
    concerned = state.switched is not None or state.goal is Goal.ATTACH
    told = concerned and state.attached and state.guest_at in state.reachable
    return replace(state, phase=Phase.RETURN) if told else given_up(state)


def given_up(state: State) -> State:
    """End with the guest where it was; a failure, unless that is an end that was asked for."""
    return end(state, gave_up_in(state))


def gave_up_in(state: State) -> Phase:
    """Return which end it is that the goal was given up."""
    undone = state.undo and state.guest_at is state.home and not state.given_up
    return Phase.UNDONE if undone else Phase.FAILED


def failed(state: State, problem: Problem) -> State:
    """End in failure; ``problem`` is why, unless another came before."""
    return end(replace(state, problem=state.problem or problem), Phase.FAILED)


def unprovable(state: State, told: str) -> State:
    """End without an answer; whatever is reserved stays so."""
    before = "" if state.problem is None else f"{state.problem.what}. "
    return replace(
        state,
        phase=Phase.UNKNOWN,
        guest_at=None,
        problem=Problem(
            what=f"{before}Where the guest runs cannot be proved: {told}",
            hint="nothing more was touched: look at both QEMUs; let the guest run on one side"
            " only, and only after the other QEMU has ended; then: guestagent-host recover with"
            " the same description",
        ),
    )


def warned(state: State, warning: str) -> State:
    """Return the state with one warning more."""
    return replace(state, warnings=(*state.warnings, warning))


def _nobody_left(seen: Seen) -> Problem:
    return Problem(
        what=f"no guest is left to be helped: {_told(seen)}",
        hint="start the VM anew; nothing is remembered of this operation from now on",
    )


def _told(seen: Seen) -> str:
    return "; ".join(str(view) for view in (seen.home, seen.away) if view is not None)
