"""The effects of the state machine: requests to the driver, and which one a state has. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from guestagent.host.migration.state import Goal, Phase, State
from guestagent.host.model import End


@dataclass(frozen=True, slots=True, kw_only=True)
class OneVfEffect:
    """An effect on one VF of ``end``, which begins after ``after_s``."""

    end: End
    vf: str
    after_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PollState:
    """Query the ends that the goal concerns, after ``after_s`` or as soon as an event arrives."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimVfs:
    """Take the leases on the VFs in use at home, and claim VFs for the target."""

    in_use: tuple[str, ...]
    wanted: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetVfs:
    """Clear these unplugged VFs of home, and forward traffic to the standbys."""

    vfs: tuple[str, ...]


class ConfigureVf(OneVfEffect):
    """Make the VF ready to be plugged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleanup:
    """Release every VF but ``used``: the guest stays at ``end`` and uses those."""

    end: End
    used: tuple[str, ...]


class Unplug(OneVfEffect):
    """Ask the guest to release the VF."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailoverToStandby:
    """Ask the guest at ``end`` to move its traffic from these VFs to their standbys."""

    end: End
    vfs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailbackToVf:
    """Ask the guest at ``end`` to use these VFs, and wait until it confirms that."""

    end: End
    vfs: tuple[str, ...]


class Plug(OneVfEffect):
    """Plug the VF into the guest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartMigration:
    """Make the destination listen and the source send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowMigration:
    """Watch the migration until it has ended, completed or not.

    ``grace_s`` is the time for the end after a cancellation; None until then.
    """

    grace_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelMigration:
    """Ask the source to stop sending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeGuest:
    """Let the stopped guest at ``end`` run."""

    end: End


PoolEffect = ClaimVfs | ResetVfs | ConfigureVf | Cleanup
Effect = (
    PoolEffect
    | PollState
    | FailoverToStandby
    | Unplug
    | Plug
    | FailbackToVf
    | StartMigration
    | FollowMigration
    | CancelMigration
    | ResumeGuest
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
    in_use, wanted = {
        Goal.ATTACH: ((), state.todo),
        Goal.DETACH: (state.home_vfs, ()),
        Goal.MIGRATE: (state.home_vfs, state.target_vfs),
    }[state.goal]
    return ClaimVfs(
        in_use=tuple(vf for vf in in_use if vf in state.home_managed),
        wanted=tuple(vf for vf in wanted if vf in state.target_managed),
    )


def _attach_pause_s(state: State) -> float:
    return state.limits.attach_pause_s * 2 ** (state.tries - 1) if state.tries else 0.0
