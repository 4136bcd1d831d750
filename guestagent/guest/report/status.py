"""Status for the operator: every pair, its active port and the reason. Pure.

The JSON form is versioned; keys are added, never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

from guestagent import __version__
from guestagent.codec import members
from guestagent.guest.core.link import Link
from guestagent.guest.core.pair import Pair, Role
from guestagent.guest.core.pairing import pair_up
from guestagent.guest.core.plan import Plan
from guestagent.guest.core.policy import Policy
from guestagent.guest.core.snapshot import Snapshot
from guestagent.guest.report.history import History
from guestagent.json_fields import Obj

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PortStatus:
    """One NIC of a pair."""

    name: str
    ifindex: int
    driver: str | None
    bus_address: str | None
    carrier: bool
    joined: bool
    lost_carrier: int | None = None
    """Carrier losses since it joined; None for a NIC that is no port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairStatus:
    """One pair; ``active`` is the role of the active port, None without a bond."""

    mac: str
    bond: str | None
    active: Role | None
    active_port: str | None
    primary: str | None
    reason: str
    vf: PortStatus | None
    standby: PortStatus
    receives_on_both: bool
    held_s: float | None
    """Remaining seconds of the hold on the standby; None without a hold."""
    switches: int | None = None
    """Number of switches since the agent started; None without a running agent."""
    switched_at_s: float | None = None
    """Time of the last switch in seconds of the wall clock (Unix time)."""
    announcements: int | None = None
    """Announcements of the agent since it started; the kernel's are not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalStatus:
    """NICs with one MAC that are left alone."""

    mac: str
    links: tuple[str, ...]
    reason: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The whole status; it is converged if the plan is empty."""

    version: int
    agent: str
    """``running``, or the reason why it does not run."""
    converged: bool
    pairs: tuple[PairStatus, ...]
    left_alone: tuple[RefusalStatus, ...]
    waiting: tuple[str, ...]
    pending: tuple[str, ...]
    last_error: str | None
    agent_version: str | None = None
    started_at_s: float | None = None
    """Start of the agent in seconds of the wall clock; None without a running agent."""
    revision: int | None = None
    """Grows with every change of the status, so that a client can wait for the next."""

    def as_json(self) -> dict[str, object]:
        """Return the versioned JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, obj: Obj) -> Status:
        """Return the status that another process has sent. Raises JsonError."""
        for pair in obj.objects("pairs"):
            if pair.optional_string("active") not in set(Role):
                pair.value["active"] = None  # a role of a later version
        return members(cls, obj)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Values that are not in a snapshot; all absent without a running agent."""

    held_s: Mapping[str, float | None] = field(default_factory=dict)
    """Remaining seconds of each hold, by MAC."""
    history: History | None = None
    announcements: Mapping[str, int] = field(default_factory=dict)
    """Frames by bond name."""
    lost_carrier: Callable[[str], int | None] = lambda _: None
    """Carrier losses of a port, by its name."""


def status(
    snapshot: Snapshot,
    policy: Policy,
    plan: Plan,
    *,
    agent: str,
    last_error: str | None = None,
    counts: Counts | None = None,
) -> Status:
    """Return the status of a snapshot with its plan."""
    counted = counts or Counts()
    return Status(
        version=VERSION,
        agent=agent,
        converged=not plan.actions and not plan.waiting,
        pairs=tuple(_pair(snapshot, pair, counted) for pair in pair_up(snapshot, policy).pairs),
        left_alone=tuple(
            RefusalStatus(mac=item.mac, links=item.links, reason=item.reason, hint=item.hint)
            for item in plan.refusals
        ),
        waiting=plan.waiting,
        pending=tuple(str(action) for action in plan.actions),
        last_error=last_error,
        agent_version=__version__ if counted.history is not None else None,
        started_at_s=counted.history.started_at_s if counted.history is not None else None,
    )


def _pair(snapshot: Snapshot, pair: Pair, counts: Counts) -> PairStatus:
    state = pair.state
    active = snapshot.link(state.active) if state else None
    primary = snapshot.link(state.primary) if state else None
    bond = pair.bond.name if pair.bond else None
    history = counts.history.of(pair.mac) if counts.history is not None else None
    return PairStatus(
        mac=pair.mac,
        bond=bond,
        active=pair.active_role if active is not None else None,
        active_port=active.name if active else None,
        primary=primary.name if primary else None,
        reason=_reason(snapshot, pair, active),
        vf=_port(pair, pair.vf, counts) if pair.vf else None,
        standby=_port(pair, pair.standby, counts),
        receives_on_both=state is not None and state.all_ports_active,
        held_s=counts.held_s.get(pair.mac),
        switches=history.switches if history is not None else None,
        switched_at_s=history.switched_at_s if history is not None else None,
        announcements=counts.announcements.get(bond or "", 0) if history is not None else None,
    )


def _reason(snapshot: Snapshot, pair: Pair, active: Link | None) -> str:
    if pair.bond is None:
        return "not bonded yet"
    if active is None:
        return "no port has a carrier"
    if pair.vf is not None and active.ifindex == pair.vf.ifindex:
        return "on the VF"
    if pair.mac in snapshot.held:
        return "on the standby: it was asked for"
    if pair.mac in snapshot.avoided:
        return "on the standby: the VF has a carrier but its gateway does not answer"
    if pair.vf is None:
        return "on the standby: the VF is away"
    if not pair.vf.is_port_of(pair.bond):
        return "on the standby: the VF has not joined yet"
    if not pair.vf.carrier:
        return "on the standby: the VF has no carrier"
    return "on the standby: the VF is about to take over"


def _port(pair: Pair, link: Link, counts: Counts) -> PortStatus:
    return PortStatus(
        name=link.name,
        ifindex=link.ifindex,
        driver=link.driver,
        bus_address=link.bus_address,
        carrier=link.carrier,
        joined=link.is_port_of(pair.bond),
        lost_carrier=counts.lost_carrier(link.name),
    )
