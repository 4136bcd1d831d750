"""The effect of a state, which follows from the state alone. Pure."""

from __future__ import annotations

from guestagent.host.migration.state import (
    CancelMigration,
    ClaimVfs,
    Cleanup,
    ConfigureVf,
    Effect,
    FailbackToVf,
    FailoverToStandby,
    FollowMigration,
    Goal,
    Phase,
    Plug,
    PollState,
    ResetVfs,
    ResumeGuest,
    StartMigration,
    State,
    Unplug,
)


def effect_of(state: State) -> Effect | None:  # noqa: C901 - one flat table, as in Phase
    """Return the effect of a state; None if no effect follows."""
    limits = state.limits
    match state.phase:
        case Phase.PREPARE:
            return PollState()
        case Phase.RESERVE:
            return _reserve(state)
        case Phase.WITHDRAW:
            return ResetVfs(vfs=tuple(vf for vf in state.home_vfs if vf in state.home_managed))
        case Phase.PROGRAM | Phase.REPROGRAM:
            end = state.target if state.phase is Phase.PROGRAM else state.home
            return ConfigureVf(end=end, vf=state.todo[0], after_s=_attach_pause_s(state))
        case Phase.TIDY:
            return Cleanup(end=state.guest_at or state.home, used=state.attached)
        case Phase.SWITCH:
            return FailoverToStandby(end=state.home, vfs=state.todo)
        case Phase.CONFIRM | Phase.RETURN:
            return FailbackToVf(end=state.guest_at or state.home, vfs=state.attached)
        case Phase.DETACH:
            pause_s = limits.unplug_pause_s if state.tries else 0.0
            return Unplug(end=state.home, vf=state.todo[0], after_s=pause_s)
        case Phase.LAUNCH:
            return StartMigration()
        case Phase.MIGRATE:
            ending = state.cancelling and not state.cancel_refused
            return FollowMigration(grace_s=limits.cancel_grace_s if ending else None)
        case Phase.CANCEL:
            return CancelMigration()
        case Phase.DECIDE:
            return PollState(after_s=limits.poll_pause_s if state.polls else 0.0)
        case Phase.RESUME:
            return ResumeGuest(end=state.guest_at or state.home)
        case Phase.ATTACH | Phase.RESTORE:
            end = state.target if state.phase is Phase.ATTACH else state.home
            return Plug(end=end, vf=state.todo[0], after_s=_attach_pause_s(state))
        case Phase.PREPARED | Phase.DONE | Phase.UNDONE | Phase.FAILED | Phase.UNKNOWN:
            return None


def _reserve(state: State) -> ClaimVfs:
    in_use = tuple(vf for vf in state.home_vfs if vf in state.home_managed)
    wanted = state.todo if state.goal is Goal.ATTACH else state.target_vfs
    return ClaimVfs(
        in_use=() if state.goal is Goal.ATTACH else in_use,
        wanted=()
        if state.goal is Goal.DETACH
        else tuple(vf for vf in wanted if vf in state.target_managed),
    )


def _attach_pause_s(state: State) -> float:
    return state.limits.attach_pause_s * 2 ** (state.tries - 1) if state.tries else 0.0
