"""The types of the state machine: goals, phases and the state itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from guestagent.codec import wire
from guestagent.findings import Finding
from guestagent.host.model import End


class Goal(StrEnum):
    """The aim of a command."""

    DETACH = "detach"
    ATTACH = "attach"
    MIGRATE = "migrate"


class Order(StrEnum):
    """The next step of a prepared migration, ordered by the program that moves the guest."""

    COMPLETE = "complete"
    ROLLBACK = "rollback"


class Phase(StrEnum):
    """The position of a command; ``transitions.TRANSITIONS`` is the table of what follows.

    Each phase has one effect under way, but PREPARED and the last four. PREPARED waits until
    another program has moved the guest and orders ``complete`` or ``rollback``. DONE: the goal
    is reached. UNDONE: the beginning is restored, and ``State.rollback_is_success``. FAILED:
    neither; ``State.guest_at`` is where the guest is. UNKNOWN: the guest's location cannot be
    proved, and nothing more was changed.

    RESERVE, WITHDRAW, PROGRAM, REPROGRAM and TIDY concern the VFs that this program
    claims and programs; they are left out where the description has none. SWITCH, CONFIRM and
    RETURN are left out where no way to the agent in the guest is described, and RETURN where
    the guest was neither asked to leave a VF nor given one.

    A cancellation takes effect between effects and during FollowMigration. Before the guest
    moves it leads to DECIDE and so back to the beginning; once the guest has arrived it ends
    ATTACH. It does not stop a rollback (RESTORE, RESUME) nor TIDY, and cuts CONFIRM short.
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
        """Whether no effect follows."""
        return self.over or self in {Phase.UNKNOWN, Phase.PREPARED}

    @property
    def over(self) -> bool:
        """Whether the operation is complete: nothing is left to recover."""
        return self in {Phase.DONE, Phase.UNDONE, Phase.FAILED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Numbers of attempts, and the pauses between them in seconds."""

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
    """The whole state of an operation; a journal line holds one.

    ``home`` is the end where VFs are unplugged and restored; ``home_vfs`` are those to restore:
    the described ones until PREPARE, then those found there. ``target_vfs`` are the ones to
    attach. ``todo`` is what the phase has left; ``tries``, ``polls`` and ``unanswered_polls``
    count repetitions. ``guest_at`` and ``attached`` are the last known facts; ``not_attached``
    are VFs whose plugging failed. For ``unplug_pending`` the guest has a request that it may
    follow later.

    ``reachable`` are the ends with a way to the guest's agent. ``switched`` is whether the guest
    left its VFs on request, ``confirmed`` whether it uses its present ones; both are None before
    it was asked. ``rollback_is_success`` makes the beginning as good an end as the goal, as for
    a command that is recovered.

    ``home_managed`` and ``target_managed`` are the VFs that this program claims and programs,
    ``programmed`` those ready to be plugged. ``reserved`` is whether a lease may be held,
    ``operation`` the owner's name in it, and ``ending`` the end after TIDY.

    ``orchestrated`` is whether another program moves and starts the guest, and ``order`` its
    last order.
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
        """The end where the guest runs when the goal is reached."""
        return End.DESTINATION if self.goal is Goal.MIGRATE else self.home
