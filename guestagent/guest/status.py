"""What the operator sees: every pair, which port carries it and why. Pure.

The JSON form is versioned; keys are added, never changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from guestagent.guest.actions import describe
from guestagent.guest.model import Link, Pair, Policy, Side, Snapshot
from guestagent.guest.pairing import pair_up
from guestagent.guest.plan import Plan
from guestagent.jsontype import Obj

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


@dataclass(frozen=True, slots=True, kw_only=True)
class PairStatus:
    """One pair; ``active`` is which side carries the traffic, None without a bond."""

    mac: str
    bond: str | None
    active: Side | None
    active_port: str | None
    primary: str | None
    reason: str
    vf: PortStatus | None
    standby: PortStatus
    receives_on_both: bool
    held_s: float | None
    """How long the pair is still held on the standby, in seconds; None without a hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalStatus:
    """NICs that are left alone."""

    mac: str
    links: tuple[str, ...]
    reason: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The whole: converged means that the plan is empty."""

    version: int
    agent: str
    """``running``, or why not."""
    converged: bool
    pairs: tuple[PairStatus, ...]
    left_alone: tuple[RefusalStatus, ...]
    waiting: tuple[str, ...]
    pending: tuple[str, ...]
    last_error: str | None

    def as_json(self) -> dict[str, object]:
        """Return the versioned JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, obj: Obj) -> Status:
        """Return what another process reported. Raises JsonError."""
        return cls(
            version=obj.integer("version"),
            agent=obj.string("agent"),
            converged=obj.boolean("converged"),
            pairs=tuple(_pair_from_json(item) for item in obj.objects("pairs")),
            left_alone=tuple(
                RefusalStatus(
                    mac=item.string("mac"),
                    links=item.strings("links"),
                    reason=item.string("reason"),
                    hint=item.string("hint"),
                )
                for item in obj.objects("left_alone")
            ),
            waiting=obj.strings("waiting"),
            pending=obj.strings("pending"),
            last_error=obj.optional_string("last_error"),
        )

    def as_text(self) -> str:
        """Return the form for people."""
        lines: list[str] = []
        for pair in self.pairs:
            hold = "" if pair.held_s is None else f", for {pair.held_s:.0f} s more at most"
            lines.append(f"{pair.bond or 'no bond'}  {pair.mac}  {pair.reason}{hold}")
            lines.extend(_port_line(pair, label, port) for label, port in _ports(pair))
        for item in self.left_alone:
            lines.append(f"left alone  {item.mac}  {', '.join(item.links)}: {item.reason}")
            lines.append(f"            {item.hint}")
        lines.extend(f"waiting     {text}" for text in self.waiting)
        lines.extend(f"to do       {text}" for text in self.pending)
        if self.last_error is not None:
            lines.append(f"last error  {self.last_error}")
        if not self.pairs and not self.left_alone:
            lines.append("no pair: no virtio-net NIC shares its permanent MAC with another NIC")
        lines.append(f"agent       {self.agent}")
        return "\n".join(lines)


def status(
    snapshot: Snapshot,
    policy: Policy,
    plan: Plan,
    *,
    agent: str,
    last_error: str | None = None,
    held_s: Mapping[str, float | None] | None = None,
) -> Status:
    """Describe a snapshot and what would be done about it."""
    left_s = held_s or {}
    return Status(
        version=VERSION,
        agent=agent,
        converged=not plan.actions and not plan.waiting,
        pairs=tuple(
            _pair(snapshot, pair, left_s.get(pair.mac)) for pair in pair_up(snapshot, policy).pairs
        ),
        left_alone=tuple(
            RefusalStatus(mac=item.mac, links=item.links, reason=item.reason, hint=item.hint)
            for item in plan.refusals
        ),
        waiting=plan.waiting,
        pending=tuple(describe(action) for action in plan.actions),
        last_error=last_error,
    )


def _pair(snapshot: Snapshot, pair: Pair, held_s: float | None) -> PairStatus:
    state = pair.bond.bond if pair.bond else None
    active = snapshot.link(state.active) if state else None
    primary = snapshot.link(state.primary) if state else None
    side = None
    if active is not None:
        side = Side.STANDBY if active.ifindex == pair.standby.ifindex else Side.VF
    return PairStatus(
        mac=pair.mac,
        bond=pair.bond.name if pair.bond else None,
        active=side,
        active_port=active.name if active else None,
        primary=primary.name if primary else None,
        reason=_reason(snapshot, pair, active),
        vf=_port(pair, pair.vf) if pair.vf else None,
        standby=_port(pair, pair.standby),
        receives_on_both=state is not None and state.all_ports_active,
        held_s=held_s,
    )


def _pair_from_json(obj: Obj) -> PairStatus:
    active = obj.optional_string("active")
    return PairStatus(
        mac=obj.string("mac"),
        bond=obj.optional_string("bond"),
        active=Side(active) if active in set(Side) else None,
        active_port=obj.optional_string("active_port"),
        primary=obj.optional_string("primary"),
        reason=obj.string("reason"),
        vf=_port_from_json(obj.object("vf")) if obj.has("vf") else None,
        standby=_port_from_json(obj.object("standby")),
        receives_on_both=obj.boolean("receives_on_both"),
        held_s=obj.number("held_s") if obj.has("held_s") else None,
    )


def _port_from_json(obj: Obj) -> PortStatus:
    return PortStatus(
        name=obj.string("name"),
        ifindex=obj.integer("ifindex"),
        driver=obj.optional_string("driver"),
        bus_address=obj.optional_string("bus_address"),
        carrier=obj.boolean("carrier"),
        joined=obj.boolean("joined"),
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
    if pair.vf.upper != pair.bond.ifindex:
        return "on the standby: the VF has not joined yet"
    if not pair.vf.carrier:
        return "on the standby: the VF has no carrier"
    return "on the standby: the VF is about to take over"


def _port(pair: Pair, link: Link) -> PortStatus:
    return PortStatus(
        name=link.name,
        ifindex=link.ifindex,
        driver=link.driver,
        bus_address=link.bus_address,
        carrier=link.carrier,
        joined=pair.bond is not None and link.upper == pair.bond.ifindex,
    )


def _ports(pair: PairStatus) -> tuple[tuple[str, PortStatus | None], ...]:
    return (("VF", pair.vf), ("standby", pair.standby))


def _port_line(pair: PairStatus, label: str, port: PortStatus | None) -> str:
    if port is None:
        return f"    {label:8} away"
    sign = "→" if port.name == pair.active_port else " "
    words = [
        f"{port.name} ({port.driver}, {port.bus_address or 'no bus address'})",
        "carrier" if port.carrier else "no carrier",
    ]
    if not port.joined:
        words.append("not a port of the bond")
    if port.name == pair.primary:
        words.append("primary")
    return f"  {sign} {label:8} {', '.join(words)}"
