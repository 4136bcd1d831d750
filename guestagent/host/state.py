"""The words of the state machine: goals, phases, effects, events and the state itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from guestagent.host.model import Side, View


class Goal(StrEnum):
    """What the operator asked for."""

    DETACH = "detach"
    ATTACH = "attach"
    MIGRATE = "migrate"


class Phase(StrEnum):
    """Where a command is; each phase but the last four has one effect under way.

    =========== ================ ===========================================================
    phase       effect           then
    =========== ================ ===========================================================
    ``PREPARE`` Look             ready: SWITCH, DETACH, LAUNCH or ATTACH · else FAILED
    ``SWITCH``  ToStandby        done, lost: DETACH · refused: DETACH, or FAILED where the
                                 guest must agree
    ``DETACH``  Unplug           done: next VF, then LAUNCH (or DONE) · refused: once more,
                                 then DECIDE · lost: DECIDE
    ``LAUNCH``  StartMigration   done: MIGRATE · refused, lost: DECIDE
    ``MIGRATE`` FollowMigration  done, lost: DECIDE · overdue, cancel: CANCEL, or UNKNOWN
                                 when that was overdue too
    ``CANCEL``  CancelMigration  done, refused: MIGRATE · lost: DECIDE
    ``DECIDE``  Look             guest at the target: ATTACH · guest at home: RESTORE ·
                                 stopped where it is provably alone: RESUME · still on its
                                 way: MIGRATE or look again · not provable: look again, then
                                 UNKNOWN
    ``RESUME``  Proceed          done, refused, lost: DECIDE
    ``ATTACH``  Plug             done: next VF, then CONFIRM · refused: once more, then next
                                 VF, then RETURN · lost: DECIDE
    ``RESTORE`` Plug             as ATTACH, but the end is always RETURN
    ``CONFIRM`` ToVf             done, refused, lost: DONE
    ``RETURN``  ToVf             done, refused, lost: FAILED, or UNDONE where the beginning
                                 is restored and that was asked for
    ``DONE``    --               what was asked for is so
    ``UNDONE``  --               all is as before, which is what ``undo`` asked for
    ``FAILED``  --               it is not; ``guest_at`` says where the guest is
    ``UNKNOWN`` --               nobody can tell from here; nothing more was touched
    =========== ================ ===========================================================

    SWITCH, CONFIRM and RETURN are left out where nothing describes a way to the
    agent in the guest, and RETURN where the guest was never told to leave its VF.

    Cancel is heard between effects and during FollowMigration. Before the
    guest moves it leads to DECIDE and so back to the beginning; once the guest
    has arrived it ends ATTACH; a rollback under way (RESTORE, RESUME) is not
    stopped by it, and CONFIRM is cut short.
    """

    PREPARE = "prepare"
    SWITCH = "switch"
    DETACH = "detach"
    LAUNCH = "launch"
    MIGRATE = "migrate"
    CANCEL = "cancel"
    DECIDE = "decide"
    RESUME = "resume"
    ATTACH = "attach"
    RESTORE = "restore"
    CONFIRM = "confirm"
    RETURN = "return"
    DONE = "done"
    UNDONE = "undone"
    FAILED = "failed"
    UNKNOWN = "unknown"

    @property
    def final(self) -> bool:
        """Whether nothing follows."""
        return self in {Phase.DONE, Phase.UNDONE, Phase.FAILED, Phase.UNKNOWN}


# --- effects: what the driver shall do ------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Ask the sides that the goal concerns; after ``after_s``, or sooner if something happens."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplug:
    """Ask the guest at ``side`` to release a VF; first wait ``after_s``."""

    side: Side
    vf: str
    after_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ToStandby:
    """Ask the guest at ``side`` to leave these VFs for their standbys."""

    side: Side
    vfs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToVf:
    """Ask the guest at ``side`` to use these VFs, and wait until it says so."""

    side: Side
    vfs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plug:
    """Give the guest at ``side`` a VF; first wait ``after_s``."""

    side: Side
    vf: str
    after_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StartMigration:
    """Make the destination listen and the source send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowMigration:
    """Watch until the migration has ended, in whatever way.

    ``grace_s`` is the time for the end after a cancellation; None until then.
    """

    grace_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelMigration:
    """Ask the source to stop sending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proceed:
    """Let the stopped guest at ``side`` run."""

    side: Side


Effect = (
    Look
    | ToStandby
    | Unplug
    | Plug
    | ToVf
    | StartMigration
    | FollowMigration
    | CancelMigration
    | Proceed
)


# --- events: what an effect came to ---------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the sides said; ``away`` is None where the goal concerns one side only."""

    home: View
    away: View | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The effect was achieved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The effect was turned down and did not happen."""

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """The effect may have happened: no answer came."""

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """The migration takes longer than it may."""

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """The operator wants it to end."""


Event = Seen | Done | Refused | Lost | Overdue | Cancel


# --- the state ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why the goal was given up, and what the operator can do."""

    what: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How often things are repeated, and after how many seconds."""

    unplug_requests: int = 3
    unplug_pause_s: float = 5.0  # K: drivers/pci/hotplug/pciehp_ctrl.c, a second press cancels
    attach_tries: int = 3
    attach_pause_s: float = 1.0  # doubled each time
    cancel_grace_s: float = 30.0
    looks: int = 60
    blind_looks: int = 3
    look_pause_s: float = 0.5
    guest_must_agree: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that is known of a command under way.

    ``home`` is the side where VFs are detached and restored; ``home_vfs`` are
    those to restore: the described ones until PREPARE, then those found there.
    ``target_vfs`` are the ones to attach. ``todo`` is what the phase has left;
    ``tries``, ``looks`` and ``blind_looks`` count repetitions. ``guest_at`` and
    ``attached`` are what was last seen or done; ``given_up`` could not be attached.
    ``reachable`` are the sides with a way to the guest's agent; ``switched`` is whether
    the guest left its VFs when it was asked, ``confirmed`` whether it uses those it has
    now; both are None while it was not asked. ``undo`` is whether the beginning is as good
    an end as the goal: so it is where a command that did not finish is recovered.
    """

    goal: Goal
    phase: Phase
    home: Side
    home_vfs: tuple[str, ...]
    target_vfs: tuple[str, ...]
    limits: Limits
    reachable: frozenset[Side] = frozenset()
    switched: bool | None = None
    confirmed: bool | None = None
    todo: tuple[str, ...] = ()
    tries: int = 0
    looks: int = 0
    blind_looks: int = 0
    sent: bool = False
    undo: bool = False
    cancelled: bool = False
    cancelling: bool = False
    problem: Problem | None = None
    guest_at: Side | None = None
    attached: tuple[str, ...] = ()
    given_up: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def target(self) -> Side:
        """The side where the guest shall be in the end."""
        return Side.DESTINATION if self.goal is Goal.MIGRATE else self.home
