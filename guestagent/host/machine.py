"""What to do next: a pure state machine for detach, attach and migrate.

``step`` takes a state and what the last effect came to, and returns the next
state and the next effect. It performs nothing, so every pair of phase and
event is tested; and as the effect follows from the state alone, a state that
was written down can be gone on with. The table is in ``Phase``.

The rule of every failure: look at both sides before anything else is done
(phase ``DECIDE``), and do what follows from what they said.
"""

from __future__ import annotations

from dataclasses import replace

from guestagent.errors import InternalError
from guestagent.host.effects import effect_of
from guestagent.host.model import Side, View
from guestagent.host.ownership import Owner, owner_of
from guestagent.host.readiness import unready
from guestagent.host.state import (
    Cancel,
    Done,
    Effect,
    Event,
    Goal,
    Limits,
    Lost,
    Overdue,
    Phase,
    Problem,
    Refused,
    Seen,
    State,
)

Step = tuple[State, Effect | None]


def begin(
    *,
    goal: Goal,
    home: Side,
    home_vfs: tuple[str, ...],
    target_vfs: tuple[str, ...],
    limits: Limits,
    reachable: frozenset[Side] = frozenset(),
) -> Step:
    """Return the first state and effect; the VFs are those that are described.

    ``reachable`` are the sides on which a way to the guest's agent is described.
    """
    state = State(
        goal=goal,
        phase=Phase.PREPARE,
        home=home,
        home_vfs=home_vfs,
        target_vfs=target_vfs,
        limits=limits,
        reachable=reachable,
    )
    return state, effect_of(state)


def step(state: State, event: Event) -> Step:
    """Return what follows when ``event`` happened in ``state``.

    Raises InternalError for an event that the state's effect cannot have.
    """
    following = _cancel(state) if isinstance(event, Cancel) else _follow(state, event)
    return following, effect_of(following)


def _follow(state: State, event: Event) -> State:  # noqa: C901 - one flat table, as in Phase
    match state.phase, event:
        case Phase.PREPARE, Seen():
            return _prepared(state, event)
        case Phase.DECIDE, Seen():
            return _decide(state, event)
        case Phase.SWITCH, Done():
            return replace(state, phase=Phase.DETACH, switched=True)
        case Phase.SWITCH, Refused(detail=detail) if state.limits.guest_must_agree:
            return _failed(state, _refused_by_guest(detail))
        case Phase.SWITCH, Refused(detail=detail) | Lost(detail=detail):
            return _unprepared(state, detail)
        case Phase.DETACH, Done():
            return _detached(state)
        case Phase.DETACH, Refused(detail=detail):
            return _unplug_again(replace(state, tries=state.tries + 1), detail)
        case Phase.LAUNCH, Done():
            return replace(state, phase=Phase.MIGRATE, sent=True)
        case Phase.LAUNCH, Refused(detail=detail):
            return _look_first(state, _not_sent(detail))
        case Phase.LAUNCH, Lost(detail=detail):
            return _look_first(replace(state, sent=True), _not_sent(detail))
        case Phase.DETACH, Lost(detail=detail):
            return _look_first(state, Problem(what=detail, hint=_TRY_AGAIN))
        case Phase.MIGRATE, Done():
            return _look_first(state)
        case Phase.MIGRATE, Lost(detail=detail):
            return _look_first(_warned(state, detail))
        case Phase.MIGRATE, Overdue(detail=detail):
            return _overdue(state, detail)
        case Phase.CANCEL, Done():
            return replace(state, phase=Phase.MIGRATE)
        case Phase.CANCEL, Refused(detail=detail):
            return replace(_warned(state, detail), phase=Phase.MIGRATE)
        case Phase.CANCEL | Phase.RESUME, Lost(detail=detail):
            return _look_first(_warned(state, detail))
        case Phase.RESUME, Done():
            return _look_first(state)
        case Phase.RESUME, Refused(detail=detail):
            return _look_first(_warned(state, detail))
        case Phase.ATTACH | Phase.RESTORE, Done():
            attached = (*state.attached, state.todo[0])
            return _plug(replace(state, attached=attached, todo=state.todo[1:], tries=0))
        case Phase.ATTACH | Phase.RESTORE, Refused(detail=detail):
            return _plug(_warned(replace(state, tries=state.tries + 1), detail))
        case Phase.ATTACH | Phase.RESTORE, Lost(detail=detail):
            return _look_first(_warned(replace(state, tries=state.tries + 1), detail))
        case Phase.CONFIRM, Done():
            return replace(state, phase=Phase.DONE, confirmed=True)
        case Phase.CONFIRM, Refused(detail=detail) | Lost(detail=detail):
            unsure = f"the guest did not confirm that it uses the VF: {detail}"
            return replace(_warned(state, unsure), phase=Phase.DONE, confirmed=False)
        case Phase.RETURN, Done():
            return _given_up(state)
        case Phase.RETURN, Refused(detail=detail) | Lost(detail=detail):
            late = f"the guest was not told to go back to its VF and does so by itself: {detail}"
            return _given_up(_warned(state, late))
        case _:
            raise InternalError(f"{type(event).__name__} cannot happen in phase {state.phase}")


_CANCELLED = Problem(what="cancelled by the operator", hint="repeat the command when it suits")
_TRY_AGAIN = "nothing was left half done as far as could be seen; inspect, then try again"


def _cancel(state: State) -> State:
    match state.phase:
        case Phase.PREPARE:
            return _failed(state, _CANCELLED)
        case Phase.SWITCH | Phase.DETACH | Phase.LAUNCH:
            return _look_first(replace(state, cancelled=True), _CANCELLED)
        case Phase.MIGRATE if not state.cancelling:
            return replace(state, phase=Phase.CANCEL, cancelled=True, cancelling=True)
        case Phase.DECIDE:
            return replace(state, cancelled=True)
        case Phase.ATTACH:
            unfinished = _warned(state, "cancelled while the VF was being attached")
            return _plug(replace(unfinished, given_up=state.given_up + state.todo, todo=()))
        case Phase.CONFIRM:
            unsure = _warned(state, "cancelled before the guest confirmed that it uses the VF")
            return replace(unsure, phase=Phase.DONE)
        case _:
            return state


def _prepared(state: State, seen: Seen) -> State:
    home_has = seen.home.devices
    present = tuple(vf for vf in state.home_vfs if vf in home_has)
    state = replace(
        state,
        home_vfs=present,
        attached=present,
        guest_at=state.home if seen.home.running else None,
    )
    problem = unready(state, seen)
    if problem is not None:
        return _failed(state, problem)
    match state.goal:
        case Goal.ATTACH:
            missing = tuple(vf for vf in state.target_vfs if vf not in home_has)
            return _plug(replace(state, phase=Phase.ATTACH, todo=missing))
        case Goal.MIGRATE if not state.target_vfs:
            state = _warned(
                state, "the destination describes no VF: the guest goes on un-accelerated there"
            )
        case Goal.DETACH if not present:
            state = _warned(state, f"{state.home}: none of the described VFs is there")
    return _switch(replace(state, todo=present))


def _switch(state: State) -> State:
    """Have the guest leave its VFs before they are taken, where it can be asked."""
    if state.todo and state.home in state.reachable:
        return replace(state, phase=Phase.SWITCH)
    if state.todo:
        return _unprepared(state, "no way to its agent is described")
    return _detach(replace(state, phase=Phase.DETACH))


def _unprepared(state: State, detail: str) -> State:
    warning = (
        "the guest could not be asked to leave the VF first, so what its driver loses while the"
        f" VF is removed is lost: {detail}"
    )
    return replace(_warned(state, warning), phase=Phase.DETACH, switched=False)


def _detached(state: State) -> State:
    gone = state.todo[0]
    attached = tuple(vf for vf in state.attached if vf != gone)
    state = replace(state, attached=attached, todo=state.todo[1:], tries=0)
    return _look_first(state) if state.undo else _detach(state)


def _detach(state: State) -> State:
    if state.todo:
        return state
    return replace(state, phase=Phase.LAUNCH if state.goal is Goal.MIGRATE else Phase.DONE)


def _unplug_again(state: State, detail: str) -> State:
    if state.tries < state.limits.unplug_requests:
        return state
    return _look_first(
        state,
        Problem(
            what=f"{detail}, in {state.tries} requests: it keeps the VF",
            hint="see what holds the device in the guest, or whether the guest hangs; once it"
            " works again it may still release the VF: inspect, and attach if it has gone",
        ),
    )


def _overdue(state: State, detail: str) -> State:
    if not state.cancelling:
        problem = Problem(
            what=detail,
            hint="raise timeout_s, downtime_limit_ms or bandwidth_limit_mib_per_s in [migration]",
        )
        return replace(state, phase=Phase.CANCEL, cancelling=True, problem=problem)
    return _unprovable(state, f"the migration does not end: {detail}")


def _look_first(state: State, problem: Problem | None = None) -> State:
    tries = state.tries if state.phase in {Phase.ATTACH, Phase.RESTORE} else 0
    return replace(state, phase=Phase.DECIDE, tries=tries, problem=state.problem or problem)


def _decide(state: State, seen: Seen) -> State:
    owner = owner_of(seen.home, seen.away)
    looked = replace(
        state,
        looks=state.looks + 1,
        blind_looks=state.blind_looks + 1 if owner is Owner.UNKNOWN else 0,
    )
    if state.undo and seen.home.gone and (seen.away is None or seen.away.gone):
        return _failed(replace(looked, guest_at=None), _nobody_left(seen))
    if looked.looks > state.limits.looks or looked.blind_looks > state.limits.blind_looks:
        return _unprovable(looked, _told(seen))
    match owner:
        case Owner.SOURCE:
            return _at_home(looked, seen)
        case Owner.SOURCE_STOPPED:
            if not state.sent:  # somebody else stopped it, and will know why
                return _at_home(looked, seen)
            return replace(looked, phase=Phase.RESUME, guest_at=state.home)
        case Owner.DESTINATION:
            return _arrived(looked, seen)
        case Owner.DESTINATION_STOPPED:
            return replace(looked, phase=Phase.RESUME, guest_at=Side.DESTINATION)
        case Owner.MOVING if state.sent and state.cancelled and not state.cancelling:
            return replace(looked, phase=Phase.CANCEL, cancelling=True)
        case Owner.MOVING if state.sent:
            return replace(looked, phase=Phase.MIGRATE)
        case _:
            return looked


def _at_home(state: State, seen: Seen) -> State:
    state = replace(state, guest_at=state.home)
    if state.goal is Goal.ATTACH:
        return _plug_missing(state, Phase.ATTACH, state.target_vfs, seen.home)
    if state.cancelled:
        state = replace(state, problem=state.problem or _CANCELLED)
    if not state.undo:
        reason = f"the migration ended and the guest is still here: {_told(seen)}"
        hint = "read the destination QEMU's log, start it anew with -incoming defer and try again"
        state = replace(state, problem=state.problem or Problem(what=reason, hint=hint))
    return _plug_missing(state, Phase.RESTORE, state.home_vfs, seen.home)


def _arrived(state: State, seen: Seen) -> State:
    state = replace(state, guest_at=Side.DESTINATION)
    if state.cancelled or state.problem is not None:
        why = "the cancellation" if state.problem is None else state.problem.what
        state = _warned(replace(state, problem=None), f"{why}: the guest had arrived already")
    view = seen.home if seen.away is None else seen.away
    return _plug_missing(state, Phase.ATTACH, state.target_vfs, view)


def _plug_missing(state: State, phase: Phase, vfs: tuple[str, ...], view: View) -> State:
    missing = tuple(vf for vf in vfs if vf not in view.devices and vf not in state.given_up)
    attached = tuple(vf for vf in vfs if vf in view.devices)
    tries = state.tries if missing[:1] == state.todo[:1] else 0
    return _plug(replace(state, phase=phase, todo=missing, attached=attached, tries=tries))


def _plug(state: State) -> State:
    """Go on with the next VF that may still be tried, or end the phase."""
    if state.todo and state.tries >= state.limits.attach_tries:
        given_up = (*state.given_up, state.todo[0])
        return _plug(replace(state, given_up=given_up, todo=state.todo[1:], tries=0))
    if state.todo:
        return state
    lacking = f"{state.guest_at or state.home}: not attached: {', '.join(state.given_up)}"
    if state.phase is Phase.RESTORE:
        return _return(_warned(state, lacking) if state.given_up else state)
    if not state.given_up:
        return _confirm(state)
    return _return(
        state,
        Problem(
            what=f"{lacking}; the guest runs there on its standby NIC",
            hint="correct what the warnings say, then: guestagent-host attach --on"
            f" {state.guest_at or state.home} with the same description",
        ),
    )


def _confirm(state: State) -> State:
    """End in success, after the guest was asked whether it uses its VFs."""
    asks = state.attached and state.guest_at in state.reachable and state.switched is not False
    return replace(state, phase=Phase.CONFIRM if asks else Phase.DONE)


def _return(state: State, problem: Problem | None = None) -> State:
    """End in failure, after a guest that was told to leave its VFs was told to use them."""
    state = replace(state, problem=state.problem or problem)
    told = state.switched and state.attached and state.guest_at in state.reachable
    return replace(state, phase=Phase.RETURN) if told else _given_up(state)


def _given_up(state: State) -> State:
    """End with the guest where it was; a failure, unless that is an end that was asked for."""
    undone = state.undo and state.guest_at is state.home and not state.given_up
    return replace(state, phase=Phase.UNDONE if undone else Phase.FAILED)


def _refused_by_guest(detail: str) -> Problem:
    return Problem(
        what=detail,
        hint="see `guestagent status` in the guest, or set guest_must_agree = false to go on"
        " without it",
    )


def _not_sent(detail: str) -> Problem:
    return Problem(
        what=f"the migration did not begin: {detail}",
        hint="check uri and listen in [destination]; a destination QEMU takes one attempt only",
    )


def _nobody_left(seen: Seen) -> Problem:
    return Problem(
        what=f"no guest is left to be helped: {_told(seen)}",
        hint="start the VM anew; nothing is remembered of this operation from now on",
    )


def _told(seen: Seen) -> str:
    return "; ".join(str(view) for view in (seen.home, seen.away) if view is not None)


def _failed(state: State, problem: Problem) -> State:
    return replace(state, phase=Phase.FAILED, problem=state.problem or problem)


def _unprovable(state: State, told: str) -> State:
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


def _warned(state: State, warning: str) -> State:
    return replace(state, warnings=(*state.warnings, warning))
