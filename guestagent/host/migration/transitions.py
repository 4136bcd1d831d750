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
from guestagent.findings import Finding
from guestagent.host.migration.arrival import (
    CANCELLED,
    decide,
    decide_anew,
    fail_and_restore,
    failed,
    finish,
    give_up,
    plug,
    unprovable,
    warned,
)
from guestagent.host.migration.effects import effect_of
from guestagent.host.migration.readiness import not_ready
from guestagent.host.migration.state import (
    BothViews,
    Cancel,
    Effect,
    Event,
    Goal,
    Limits,
    NoVfAvailable,
    OutcomeUnknown,
    Phase,
    Rejected,
    State,
    Succeeded,
    TimedOut,
)
from guestagent.host.model import End

Step = tuple[State, Effect | None]


def begin(
    *,
    goal: Goal,
    home: End,
    home_vfs: tuple[str, ...],
    target_vfs: tuple[str, ...],
    limits: Limits,
    reachable: frozenset[End] = frozenset(),
    orchestrated: bool = False,
    operation: str = "",
    home_managed: tuple[str, ...] = (),
    target_managed: tuple[str, ...] = (),
) -> Step:
    """Return the first state and effect; the VFs are those that are described.

    ``reachable`` are the sides on which a way to the guest's agent is described. The
    others are as in ``State``.
    """
    state = State(
        goal=goal,
        phase=Phase.PREPARE,
        home=home,
        home_vfs=home_vfs,
        target_vfs=target_vfs,
        limits=limits,
        reachable=reachable,
        orchestrated=orchestrated,
        operation=operation,
        home_managed=home_managed,
        target_managed=target_managed,
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
        case Phase.PREPARE, BothViews():
            return _prepared(state, event)
        case Phase.DECIDE, BothViews():
            return decide(state, event)
        case Phase.SWITCH, Succeeded():
            return replace(state, phase=Phase.DETACH, switched=True)
        case Phase.SWITCH, Rejected(detail=detail) if state.limits.guest_must_agree:
            return fail_and_restore(replace(state, switched=False), _refused_by_guest(detail))
        case Phase.SWITCH, Rejected(detail=detail) | OutcomeUnknown(detail=detail):
            return _unprepared(state, detail)
        case Phase.DETACH, Succeeded():
            return _detached(state)
        case Phase.DETACH, Rejected(detail=detail):
            return _unplug_again(_leaving(replace(state, tries=state.tries + 1)), detail)
        case Phase.LAUNCH, Succeeded():
            return replace(state, phase=Phase.MIGRATE, sent=True)
        case Phase.LAUNCH, Rejected(detail=detail):
            return decide_anew(state, _not_sent(detail))
        case Phase.LAUNCH, OutcomeUnknown(detail=detail):
            return decide_anew(replace(state, sent=True), _not_sent(detail))
        case Phase.DETACH, OutcomeUnknown(detail=detail):
            return decide_anew(_leaving(state), Finding(message=detail, hint=_TRY_AGAIN))
        case Phase.MIGRATE, Succeeded():
            return decide_anew(state)
        case Phase.MIGRATE, OutcomeUnknown(detail=detail):
            return decide_anew(warned(state, detail))
        case Phase.MIGRATE, TimedOut(detail=detail):
            return _overdue(state, detail)
        case Phase.CANCEL, Succeeded():
            return replace(state, phase=Phase.MIGRATE)
        case Phase.CANCEL, Rejected(detail=detail):
            return replace(warned(state, detail), phase=Phase.MIGRATE, cancel_refused=True)
        case Phase.CANCEL | Phase.RESUME, OutcomeUnknown(detail=detail):
            return decide_anew(warned(state, detail))
        case Phase.RESUME, Succeeded():
            return decide_anew(state)
        case Phase.RESUME, Rejected(detail=detail):
            return decide_anew(warned(state, detail))
        case Phase.ATTACH | Phase.RESTORE, Succeeded():
            attached = (*state.attached, state.todo[0])
            return plug(replace(state, attached=attached, todo=state.todo[1:], tries=0))
        case Phase.ATTACH | Phase.RESTORE, Rejected(detail=detail):
            return plug(warned(replace(state, tries=state.tries + 1), detail))
        case Phase.ATTACH | Phase.RESTORE, OutcomeUnknown(detail=detail):
            return decide_anew(warned(replace(state, tries=state.tries + 1), detail))
        case Phase.CONFIRM, Succeeded():
            return finish(replace(state, confirmed=True), Phase.DONE)
        case Phase.CONFIRM, Rejected(detail=detail) | OutcomeUnknown(detail=detail):
            unsure = (
                "the guest did not confirm that it uses the VF, so the way of frames to its"
                f" standby NIC was left as it is: {detail}"
            )
            return finish(replace(warned(state, unsure), confirmed=False), Phase.DONE)
        case Phase.RETURN, Succeeded():
            return give_up(replace(state, confirmed=True))
        case Phase.RETURN, Rejected(detail=detail) | OutcomeUnknown(detail=detail):
            late = f"the guest was not told to go back to its VF and does so by itself: {detail}"
            return give_up(replace(warned(state, late), confirmed=False))
        case _:
            return _follow_vfs(state, event)


def _follow_vfs(state: State, event: Event) -> State:  # noqa: C901 - as above
    """Follow the phases about VFs that are claimed and programmed here."""
    match state.phase, event:
        case Phase.RESERVE, Succeeded():
            return _go(state)
        case Phase.RESERVE, NoVfAvailable(vfs=vfs, detail=detail):
            return _go(_without(state, vfs, detail))
        case Phase.RESERVE, Rejected(detail=detail) | OutcomeUnknown(detail=detail):
            return failed(state, Finding(message=detail, hint=_SEE_VFS))
        case Phase.WITHDRAW, Succeeded():
            return _withdrawn(state)
        case Phase.WITHDRAW, Rejected(detail=detail) | OutcomeUnknown(detail=detail):
            return decide_anew(state, Finding(message=detail, hint=_SEE_VFS))
        case Phase.PROGRAM | Phase.REPROGRAM, Succeeded():
            programmed = (*state.programmed, state.todo[0])
            return plug(replace(state, programmed=programmed, tries=0))
        case Phase.PROGRAM | Phase.REPROGRAM, Rejected(detail=detail):
            return plug(warned(replace(state, tries=state.tries + 1), detail))
        case Phase.PROGRAM | Phase.REPROGRAM, OutcomeUnknown(detail=detail):
            return decide_anew(warned(replace(state, tries=state.tries + 1), detail))
        case Phase.TIDY, Succeeded():
            return replace(state, phase=state.ending or Phase.FAILED)
        case Phase.TIDY, Rejected(detail=detail) | OutcomeUnknown(detail=detail):
            kept = f"{detail}; see guestagent-host vf list, and vf release once it is free"
            return replace(warned(state, kept), phase=state.ending or Phase.FAILED)
        case _:
            raise InternalError(f"{type(event).__name__} cannot happen in phase {state.phase}")


_SEE_VFS = "guestagent-host vf list shows who has each VF"
_TRY_AGAIN = "nothing was left half done as far as could be seen; inspect, then try again"


def _cancel(state: State) -> State:
    match state.phase:
        case Phase.PREPARE:
            return failed(state, CANCELLED)
        case Phase.RESERVE:
            return failed(state, CANCELLED)
        case Phase.SWITCH | Phase.DETACH | Phase.WITHDRAW | Phase.LAUNCH:
            return decide_anew(replace(state, cancelled=True), CANCELLED)
        case Phase.MIGRATE if not state.cancelling:
            return replace(state, phase=Phase.CANCEL, cancelled=True, cancelling=True)
        case Phase.DECIDE:
            return replace(state, cancelled=True)
        case Phase.PROGRAM | Phase.ATTACH:
            unfinished = warned(state, "cancelled while the VF was being attached")
            return plug(replace(unfinished, not_attached=state.not_attached + state.todo, todo=()))
        case Phase.CONFIRM:
            unsure = warned(state, "cancelled before the guest confirmed that it uses the VF")
            return finish(replace(unsure, confirmed=False), Phase.DONE)
        case _:
            return state


def _prepared(state: State, seen: BothViews) -> State:
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
        return failed(state, problem)
    match state.goal:
        case Goal.ATTACH:
            missing = tuple(vf for vf in state.target_vfs if vf not in home_has)
            return _reserve(replace(state, todo=missing), missing)
        case Goal.MIGRATE if not state.target_vfs:
            state = warned(
                state, "the destination describes no VF: the guest goes on un-accelerated there"
            )
        case Goal.DETACH if not present:
            state = warned(state, f"{state.home}: none of the described VFs is there")
    concerned = present if state.goal is Goal.DETACH else (*present, *state.target_vfs)
    return _reserve(replace(state, todo=present), concerned)


def _reserve(state: State, vfs: tuple[str, ...]) -> State:
    """Take the leases first, where any of these VFs is claimed and programmed here."""
    if set(vfs) & {*state.home_managed, *state.target_managed}:
        return replace(state, phase=Phase.RESERVE, reserved=True)
    return _go(state)


def _without(state: State, vfs: tuple[str, ...], detail: str) -> State:
    """Do without VFs that cannot be had on the target."""
    if state.goal is Goal.ATTACH:
        todo = tuple(vf for vf in state.todo if vf not in vfs)
        return warned(replace(state, todo=todo, not_attached=vfs), detail)
    left = tuple(vf for vf in state.target_vfs if vf not in vfs)
    warning = f"the guest goes on un-accelerated at the destination: {detail}"
    return warned(replace(state, target_vfs=left), warning)


def _go(state: State) -> State:
    """Begin with what changes the guest."""
    if state.goal is Goal.ATTACH:
        return plug(replace(state, phase=Phase.ATTACH))
    return _switch(state)


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
    return replace(warned(state, warning), phase=Phase.DETACH, switched=False)


def _detached(state: State) -> State:
    gone = state.todo[0]
    attached = tuple(vf for vf in state.attached if vf != gone)
    state = replace(state, attached=attached, todo=state.todo[1:], tries=0)
    return decide_anew(state) if state.rollback_is_success else _detach(state)


def _detach(state: State) -> State:
    if state.todo:
        return state
    if {*state.home_vfs} & {*state.home_managed} or state.target_managed:
        return replace(state, phase=Phase.WITHDRAW)
    return _withdrawn(state)


def _withdrawn(state: State) -> State:
    """The guest can move: send it, or let whoever wants to do so."""
    if state.goal is Goal.MIGRATE:
        return replace(state, phase=Phase.PREPARED if state.orchestrated else Phase.LAUNCH)
    return finish(state, Phase.DONE)


def _leaving(state: State) -> State:
    """Remember that a request to release the VF stays with the guest."""
    return replace(
        state, unplug_pending=tuple(dict.fromkeys((*state.unplug_pending, state.todo[0])))
    )


def _unplug_again(state: State, detail: str) -> State:
    if state.tries < state.limits.unplug_requests:
        return state
    return decide_anew(
        state,
        Finding(
            message=f"{detail}, in {state.tries} requests: it keeps the VF",
            hint="see what holds the device in the guest, or whether the guest hangs; once it"
            " works again it may still release the VF: inspect, and attach if it has gone",
        ),
    )


def _overdue(state: State, detail: str) -> State:
    if not state.cancelling:
        problem = Finding(
            message=detail,
            hint="raise timeout_s, downtime_limit_ms or bandwidth_limit_mib_per_s in [migration]",
        )
        return replace(state, phase=Phase.CANCEL, cancelling=True, problem=problem)
    return unprovable(state, f"the migration does not end: {detail}")


def _refused_by_guest(detail: str) -> Finding:
    return Finding(
        message=detail,
        hint="see `guestagent status` in the guest, or set guest_must_agree = false to go on"
        " without it",
    )


def _not_sent(detail: str) -> Finding:
    return Finding(
        message=f"the migration did not begin: {detail}",
        hint="check uri and listen in [destination]; a destination QEMU takes one attempt only",
    )
