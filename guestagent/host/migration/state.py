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
    ``UNDONE``  --               all is as before, which is what ``undo`` asked for
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
class Look:
    """Ask the sides that the goal concerns; after ``after_s``, or sooner if something happens."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """Take the leases on the VFs that are in use at home, and on some for the target."""

    in_use: tuple[str, ...]
    wanted: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    """Clear these VFs of home, which are unplugged, and open the way to the standbys."""

    vfs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Make a VF of ``side`` ready to be plugged; first wait ``after_s``."""

    side: Side
    vf: str
    after_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tidy:
    """The guest stays at ``side`` and uses ``used``: give back every other VF."""

    side: Side
    used: tuple[str, ...]


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
    | Reserve
    | Withdraw
    | Program
    | Tidy
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
class Lacking:
    """The effect was achieved but for these VFs, which cannot be had."""

    vfs: tuple[str, ...]
    detail: str


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


Event = Seen | Done | Lacking | Refused | Lost | Overdue | Cancel


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
    ``attached`` are what was last seen or done; ``given_up`` could not be attached, and
    ``leaving`` the guest was asked to release and may still, later.
    ``reachable`` are the sides with a way to the guest's agent; ``switched`` is whether
    the guest left its VFs when it was asked, ``confirmed`` whether it uses those it has
    now; both are None while it was not asked. ``undo`` is whether the beginning is as good
    an end as the goal: so it is where a command that did not finish is recovered.

    ``home_provided`` and ``target_provided`` are the VFs that are claimed and programmed
    here, ``programmed`` those that are ready to be plugged. ``reserved`` is whether any
    lease may be held, and ``ending`` the end that was reached, while TIDY gives them back.
    ``operation`` is the name under which they are held.

    ``orchestrated`` is whether somebody else moves the guest and starts it, and
    ``order`` what they wanted last.
    """

    goal: Goal
    phase: Phase
    home: Side
    home_vfs: tuple[str, ...]
    target_vfs: tuple[str, ...]
    limits: Limits
    reachable: frozenset[Side] = frozenset()
    operation: str = ""
    home_provided: tuple[str, ...] = ()
    target_provided: tuple[str, ...] = ()
    programmed: tuple[str, ...] = ()
    reserved: bool = False
    ending: Phase | None = None
    switched: bool | None = None
    confirmed: bool | None = None
    todo: tuple[str, ...] = ()
    tries: int = 0
    looks: int = 0
    blind_looks: int = 0
    sent: bool = False
    undo: bool = False
    orchestrated: bool = False
    order: Order | None = None
    cancelled: bool = False
    cancelling: bool = False
    cancel_refused: bool = False
    problem: Problem | None = None
    guest_at: Side | None = None
    attached: tuple[str, ...] = ()
    given_up: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def target(self) -> Side:
        """The side where the guest shall be in the end."""
        return Side.DESTINATION if self.goal is Goal.MIGRATE else self.home
