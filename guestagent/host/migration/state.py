"""The words of the state machine: goals, phases, effects, events and the state itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from guestagent.codec import wire
from guestagent.findings import Finding
from guestagent.host.model import End, QemuState


class Goal(StrEnum):
    """What the operator asked for."""

    DETACH = "detach"
    ATTACH = "attach"
    MIGRATE = "migrate"


class Order(StrEnum):
    """What somebody else, who moves the guest, wants next of a prepared migration."""

    COMPLETE = "complete"
    ROLLBACK = "rollback"


class Phase(StrEnum):
    """Where a command is; each phase but PREPARED and the last four has one effect under way.

    =========== ================ ===========================================================
    phase       effect           then
    =========== ================ ===========================================================
    ``PREPARE`` Look             ready: RESERVE, or what follows it · else FAILED
    ``RESERVE`` Reserve          done: SWITCH, DETACH, LAUNCH or PROGRAM · lacking: the same
                                 without those VFs · refused, lost: FAILED
    ``SWITCH``  ToStandby        done, lost: DETACH · refused: DETACH, or RETURN where the
                                 guest must agree
    ``DETACH``  Unplug           done: next VF, then WITHDRAW (or LAUNCH, or DONE) ·
                                 refused: once more, then DECIDE · lost: DECIDE
    ``WITHDRAW`` Withdraw        done: LAUNCH (or DONE) · refused, lost: DECIDE
    ``PREPARED`` --              somebody else migrates, then orders complete or rollback
    ``LAUNCH``  StartMigration   done: MIGRATE · refused, lost: DECIDE
    ``MIGRATE`` FollowMigration  done, lost: DECIDE · overdue, cancel: CANCEL, or UNKNOWN
                                 when that was overdue too
    ``CANCEL``  CancelMigration  done: MIGRATE, not for long · refused: MIGRATE · lost: DECIDE
    ``DECIDE``  Look             guest at the target: PROGRAM · guest at home: REPROGRAM ·
                                 stopped where it is provably alone: RESUME · still on its
                                 way: MIGRATE or look again · not provable: look again, then
                                 UNKNOWN
    ``RESUME``  Proceed          done, refused, lost: DECIDE
    ``PROGRAM`` Program          done: ATTACH · refused: once more, then next VF · lost: DECIDE
    ``ATTACH``  Plug             done: next VF, then CONFIRM · refused: once more, then next
                                 VF, then RETURN · lost: DECIDE
    ``REPROGRAM`` Program        as PROGRAM, then RESTORE
    ``RESTORE`` Plug             as ATTACH, but the end is always RETURN
    ``CONFIRM`` ToVf             done, refused, lost: DONE
    ``RETURN``  ToVf             done, refused, lost: FAILED, or UNDONE where the beginning
                                 is restored and that was asked for
    ``TIDY``    Tidy             done, refused, lost: the end that was reached
    ``DONE``    --               what was asked for is so
    ``UNDONE``  --               all is as before, which is what ``rollback_is_success`` asked for
    ``FAILED``  --               it is not; ``guest_at`` says where the guest is
    ``UNKNOWN`` --               nobody can tell from here; nothing more was touched
    =========== ================ ===========================================================

    RESERVE, WITHDRAW, PROGRAM, REPROGRAM and TIDY concern the VFs that this program
    claims and programs; where the description leaves that to others, they are left out.
    SWITCH, CONFIRM and RETURN are left out where nothing describes a way to the
    agent in the guest, and RETURN where the guest was neither asked to leave a VF nor given
    one.

    Cancel is heard between effects and during FollowMigration. Before the
    guest moves it leads to DECIDE and so back to the beginning; once the guest
    has arrived it ends ATTACH; a rollback under way (RESTORE, RESUME) is not
    stopped by it, nor is TIDY, and CONFIRM is cut short.
    """

    PREPARE = "prepare"
    RESERVE = "reserve"
    SWITCH = "switch"
    DETACH = "detach"
    WITHDRAW = "withdraw"
    PREPARED = "prepared"
    LAUNCH = "launch"
    MIGRATE = "migrate"
    CANCEL = "cancel"
    DECIDE = "decide"
    RESUME = "resume"
    PROGRAM = "program"
    ATTACH = "attach"
    REPROGRAM = "reprogram"
    RESTORE = "restore"
    CONFIRM = "confirm"
    RETURN = "return"
    TIDY = "tidy"
    DONE = "done"
    UNDONE = "undone"
    FAILED = "failed"
    UNKNOWN = "unknown"

    @property
    def final(self) -> bool:
        """Whether nothing follows by itself."""
        return self.over or self in {Phase.UNKNOWN, Phase.PREPARED}

    @property
    def over(self) -> bool:
        """Whether nothing is left to be done about the operation."""
        return self in {Phase.DONE, Phase.UNDONE, Phase.FAILED}


# --- effects: what the driver shall do ------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PollState:
    """Ask the sides that the goal concerns; after ``after_s``, or sooner if something happens."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimVfs:
    """Take the leases on the VFs that are in use at home, and on some for the target."""

    in_use: tuple[str, ...]
    wanted: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetVfs:
    """Clear these VFs of home, which are unplugged, and open the way to the standbys."""

    vfs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigureVf:
    """Make a VF of ``end`` ready to be plugged; first wait ``after_s``."""

    end: End
    vf: str
    after_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleanup:
    """The guest stays at ``end`` and uses ``used``: give back every other VF."""

    end: End
    used: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplug:
    """Ask the guest at ``end`` to release a VF; first wait ``after_s``."""

    end: End
    vf: str
    after_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FailoverToStandby:
    """Ask the guest at ``end`` to leave these VFs for their standbys."""

    end: End
    vfs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailbackToVf:
    """Ask the guest at ``end`` to use these VFs, and wait until it says so."""

    end: End
    vfs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plug:
    """Give the guest at ``end`` a VF; first wait ``after_s``."""

    end: End
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
class ResumeGuest:
    """Let the stopped guest at ``end`` run."""

    end: End


Effect = (
    PollState
    | ClaimVfs
    | ResetVfs
    | ConfigureVf
    | Cleanup
    | FailoverToStandby
    | Unplug
    | Plug
    | FailbackToVf
    | StartMigration
    | FollowMigration
    | CancelMigration
    | ResumeGuest
)


# --- events: what an effect came to ---------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class BothViews:
    """What the sides said; ``away`` is None where the goal concerns one side only."""

    WIRE_NAME: ClassVar[str] = "Seen"

    home: QemuState
    away: QemuState | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """The effect was achieved."""

    WIRE_NAME: ClassVar[str] = "Done"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoVfAvailable:
    """The effect was achieved but for these VFs, which cannot be had."""

    WIRE_NAME: ClassVar[str] = "Lacking"

    vfs: tuple[str, ...]
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The effect was turned down and did not happen."""

    WIRE_NAME: ClassVar[str] = "Refused"

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeUnknown:
    """The effect may have happened: no answer came."""

    WIRE_NAME: ClassVar[str] = "Lost"

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedOut:
    """The migration takes longer than it may."""

    WIRE_NAME: ClassVar[str] = "Overdue"

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """The operator wants it to end."""


Event = BothViews | Succeeded | NoVfAvailable | Rejected | OutcomeUnknown | TimedOut | Cancel


# --- the state ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How often things are repeated, and after how many seconds."""

    unplug_requests: int = 3
    unplug_pause_s: float = 5.0  # K: drivers/pci/hotplug/pciehp_ctrl.c, a second press cancels
    attach_tries: int = 3
    attach_pause_s: float = 1.0  # doubled each time
    cancel_grace_s: float = 30.0
    polls: int = field(default=60, metadata=wire("looks"))
    unanswered_polls: int = field(default=3, metadata=wire("blind_looks"))
    poll_pause_s: float = field(default=0.5, metadata=wire("look_pause_s"))
    guest_must_agree: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that is known of a command under way.

    ``home`` is the side where VFs are detached and restored; ``home_vfs`` are
    those to restore: the described ones until PREPARE, then those found there.
    ``target_vfs`` are the ones to attach. ``todo`` is what the phase has left;
    ``tries``, ``polls`` and ``unanswered_polls`` count repetitions. ``guest_at`` and
    ``attached`` are what was last seen or done; ``not_attached`` could not be attached, and
    ``unplug_pending`` the guest was asked to release and may still, later.
    ``reachable`` are the ends with a way to the guest's agent; ``switched`` is whether
    the guest left its VFs when it was asked, ``confirmed`` whether it uses those it has
    now; both are None while it was not asked. ``rollback_is_success`` is whether the
    beginning is as good an end as the goal: so it is where a command that did not finish
    is recovered.

    ``home_managed`` and ``target_managed`` are the VFs that are claimed and programmed
    here, ``programmed`` those that are ready to be plugged. ``reserved`` is whether any
    lease may be held, and ``ending`` the end that was reached, while TIDY gives them back.
    ``operation`` is the name under which they are held.

    ``orchestrated`` is whether somebody else moves the guest and starts it, and
    ``order`` what they wanted last.
    """

    goal: Goal
    phase: Phase
    home: End
    home_vfs: tuple[str, ...]
    target_vfs: tuple[str, ...]
    limits: Limits
    reachable: frozenset[End] = frozenset()
    operation: str = ""
    home_managed: tuple[str, ...] = field(default=(), metadata=wire("home_provided"))
    target_managed: tuple[str, ...] = field(default=(), metadata=wire("target_provided"))
    programmed: tuple[str, ...] = ()
    reserved: bool = False
    ending: Phase | None = None
    switched: bool | None = None
    confirmed: bool | None = None
    todo: tuple[str, ...] = ()
    tries: int = 0
    polls: int = field(default=0, metadata=wire("looks"))
    unanswered_polls: int = field(default=0, metadata=wire("blind_looks"))
    sent: bool = False
    rollback_is_success: bool = field(default=False, metadata=wire("undo"))
    orchestrated: bool = False
    order: Order | None = None
    cancelled: bool = False
    cancelling: bool = False
    cancel_refused: bool = False
    problem: Finding | None = None
    guest_at: End | None = None
    attached: tuple[str, ...] = ()
    not_attached: tuple[str, ...] = field(default=(), metadata=wire("given_up"))
    unplug_pending: tuple[str, ...] = field(default=(), metadata=wire("leaving"))
    warnings: tuple[str, ...] = ()

    @property
    def target(self) -> End:
        """The side where the guest shall be in the end."""
        return End.DESTINATION if self.goal is Goal.MIGRATE else self.home
