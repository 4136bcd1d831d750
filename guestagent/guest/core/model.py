"""What the agent knows at one moment, as values: links, bonds, pairs, policy.

Pure: nothing here reads the system. Identity of a link is its ifindex, the key
of a pair is the permanent MAC, written in lower case with colons.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from enum import StrEnum

MARK = "guestagent:"
"""A bond is ours when its ``ifalias`` starts with this: readable from the kernel alone."""

FAIL_OVER_MAC_NONE, FAIL_OVER_MAC_ACTIVE = 0, 1  # include/uapi/linux/if_link.h
BIRTHMARK = 0x67610001
"""Group (IFLA_GROUP) of a bond of ours between its creation and its alias.

The kernel takes the group in the create message but not the alias
(K: net/core/rtnetlink.c, rtnl_create_link (6.12)), so a bond is recognisable
as ours from its first moment on, and a crash in between is repaired.
"""

RP_FILTER = "ipv4/conf/rp_filter"
"""Key of the setting that drops what would not be answered through the same link, or any."""

ACCEPT_RA = "ipv6/conf/accept_ra"
"""Key of the setting that says whether the kernel takes router advertisements."""

STANDBY_DRIVER = "virtio_net"


def bond_alias(mac: str) -> str:
    """Return the alias that marks the bond of a pair."""
    return f"{MARK} pair {mac}"


class Side(StrEnum):
    """Which of the two NICs of a pair carries the traffic."""

    VF = "vf"
    STANDBY = "standby"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An IP address on a link, with what is needed to put it elsewhere unchanged."""

    family: int
    address: str
    prefix_length: int
    broadcast: str | None = None
    peer: str | None = None
    scope: int = 0
    flags: int = 0
    protocol: int = 0
    metric: int = 0
    """Of the route to its network that the kernel makes."""
    label: str | None = None
    """Name of an alias such as eth0:1."""
    preferred_s: int | None = None
    """Remaining preferred lifetime in seconds; None is for ever."""
    valid_s: int | None = None

    def renamed(self, old: str, new: str) -> Address:
        """Return the address with the label that it has on another link: old:1 becomes new:1."""
        if self.label is None:
            return self
        return replace(self, label=self.label.replace(old, new, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route whose only next hop leaves through one link."""

    family: int
    destination: str | None
    """Network address, or None for the default route."""
    prefix_length: int
    gateway: str | None = None
    source: str | None = None
    table: int = 254
    protocol: int = 3
    scope: int = 0
    kind: int = 1
    metric: int | None = None
    metric_elsewhere: int | None = None
    """What it gets on another link; None for the same."""
    tos: int = 0
    behind: bool = False
    """Whether another one, to the same destination and with the same metric, is before it."""
    from_length: int = 0
    """Length of the source prefix that it is for, which is in ``rest``."""
    mtu: int | None = None
    """What ``rest`` says of it, to be shown."""
    rest: str = ""
    """All else, opaque outside ``kernel/``: MTU and the like, realms, encapsulation."""
    flags: int = 0
    preference: int | None = None
    """Router preference of RFC 4191, IPv6 only."""
    expires_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A routing policy rule that names a link."""

    family: int
    iif: str | None = None
    oif: str | None = None
    rest: str
    """All else, opaque outside ``kernel/``."""

    def renamed(self, old: str, new: str) -> Rule:
        """Return the rule with another link in place of one."""
        return replace(
            self,
            iif=new if self.iif == old else self.iif,
            oif=new if self.oif == old else self.oif,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A neighbour that somebody set, or one that the link answers for (proxy)."""

    family: int
    address: str
    hardware_address: str
    """Empty for one that the link answers for."""
    proxy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting of a link below /proc/sys/net."""

    key: str
    """Such as ipv4/conf/rp_filter."""
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BondState:
    """The state of a bond as the kernel tells it."""

    mode: str
    active: int | None = None
    """ifindex of the active port."""
    primary: int | None = None
    """ifindex of the primary port; None when it is unset or names no present port."""
    miimon_ms: int = 0
    fail_over_mac: int = 0
    primary_reselect: int = 0
    announcements: int = 0
    """How often the kernel announces the addresses after a change of port."""
    all_ports_active: bool = False
    """Whether frames that arrive on the inactive port are delivered (the switch window)."""
    steady: bool = False
    """Whether ports and active port have stayed the same for the length of a switch window."""


class Autoconfiguration(StrEnum):
    """Who makes the IPv6 addresses of a NIC, beside which nobody else must."""

    KERNEL = "kernel"
    ROUTERS = "routers"
    """The network stack hears the routers; the link-local address is the kernel's."""
    STACK = "stack"
    """The network stack makes all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A network device."""

    ifindex: int
    name: str
    address: str
    permanent_address: str | None = None
    kind: str | None = None
    """rtnetlink kind (bond, vlan, bridge …); None for a NIC."""
    driver: str | None = None
    """Driver of the device behind it; None for a virtual link."""
    bus_address: str | None = None
    """Such as 0000:02:00.0; None when no device is behind it."""
    mtu: int = 1500
    up: bool = False
    carrier: bool = False
    operational: bool = False
    """Whether the kernel has begun to send on it, which comes after the carrier.

    Until its linkwatch has run, what is sent on a NIC with a carrier is dropped in
    silence (K: net/core/link_watch.c, linkwatch_do_dev; net/sched/sch_generic.c,
    dev_activate (6.12)); the bond looks at the carrier alone.
    """
    quiet: bool = False
    """Whether the kernel makes no link-local address on it (addrgenmode none)."""
    upper: int | None = None
    """ifindex of the bond, bridge or other master it is a port of."""
    lower: int | None = None
    """ifindex of the link it sits on (VLAN, macvlan …)."""
    alias: str | None = None
    group: int = 0
    net_failover: bool = False
    """Whether virtio's STANDBY feature gives it to the kernel's net_failover."""
    settled: bool = True
    """Whether udev has finished with it, name included, or was given its time."""
    bond: BondState | None = None
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    settings: tuple[Setting, ...] = ()
    """Those of the NIC that the bond does not have yet."""
    filtering: bool = False
    """Whether it may drop what would not be answered through it (rp_filter)."""
    obstacles: tuple[str, ...] = ()
    """What it has that cannot be moved to another link, in words."""
    conflict: str | None = None
    """Reason why the configuration of its network stack keeps it out of a bond, or None."""
    other_names: tuple[str, ...] = ()
    """Alternative names, which udev gives it beside its own."""
    autoconfiguration: Autoconfiguration = Autoconfiguration.KERNEL
    """Who makes its IPv6 addresses."""

    @property
    def physical(self) -> bool:
        """Whether a device stands behind it: no VLAN, bond, bridge or the like."""
        return self.kind is None and self.driver is not None

    @property
    def ours(self) -> bool:
        """Whether it is a bond that the agent made, or was making when it was interrupted."""
        return self.kind == "bond" and (self.complete or self.group == BIRTHMARK)

    @property
    def complete(self) -> bool:
        """Whether the alias says that a bond of ours was made to the end."""
        return (self.alias or "").startswith(MARK)

    @property
    def pair_mac(self) -> str:
        """MAC of the pair that a bond of ours is for."""
        return (self.alias or "").removeprefix(bond_alias("")) if self.complete else self.address

    def is_among(self, names: AbstractSet[str]) -> bool:
        """Whether its permanent MAC, its PCI address or its driver is among ``names``."""
        return not names.isdisjoint(
            {self.permanent_address or "", self.bus_address or "", self.driver or ""}
        )

    def serves(self, mac: str) -> bool:
        """Whether it is the bond of ours for a pair.

        The alias decides: a bond whose ports have all left takes a random MAC, and
        that of the next port that joins (K: drivers/net/bonding/bond_main.c,
        bond_release_and_destroy, bond_enslave (6.12)).
        """
        return self.ours and self.pair_mac == mac


@dataclass(frozen=True, slots=True, kw_only=True)
class StackFile:
    """A file that makes a network stack configure the bond as it did the NIC."""

    path: str
    content: str
    in_place: bool
    pre_takeover_content: str | None = None
    """Content that keeps the stack off the bond until the take-over; None if it waits anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """A pair that was seen before: its bond is made even while the VF is away."""

    mac: str
    bond: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything a plan is made from."""

    links: tuple[Link, ...]
    remembered: tuple[Remembered, ...] = ()
    held: frozenset[str] = frozenset()
    """MACs of the pairs that somebody asked to keep on the standby."""
    avoided: frozenset[str] = frozenset()
    """MACs of the pairs whose VF has a carrier and no path."""
    released: frozenset[str] = frozenset()
    """MACs of the pairs that somebody asked to take apart and leave alone."""
    stack_files: dict[str, tuple[StackFile, ...]] = field(default_factory=dict)
    """By bond name: what the owner of the address configuration must be told."""

    def link(self, ifindex: int | None) -> Link | None:
        """Return the link with that ifindex, or None."""
        return next((link for link in self.links if link.ifindex == ifindex), None)

    def ports(self, bond: Link) -> tuple[Link, ...]:
        """Return the ports of a bond."""
        return tuple(link for link in self.links if link.upper == bond.ifindex)

    def above(self, lower: Link) -> tuple[Link, ...]:
        """Return the VLANs and the like that sit on a link."""
        return tuple(link for link in self.links if link.lower == lower.ifindex)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A standby and, while it is there, its VF; ``bond`` once it exists."""

    mac: str
    standby: Link
    vf: Link | None
    bond: Link | None

    @property
    def side(self) -> Side | None:
        """Which side carries the traffic; None without a bond or an active port."""
        state = self.bond.bond if self.bond is not None else None
        if state is None or state.active is None:
            return None
        return Side.STANDBY if state.active == self.standby.ifindex else Side.VF


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """NICs of one MAC that are left alone, with the reason and what to do."""

    mac: str
    links: tuple[str, ...]
    reason: str
    hint: str
    wanted: bool = False
    """Whether the operator has asked for it: no fault then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BondOptions:
    """How a bond of ours is made. Defaults are what planned switches were measured with."""

    miimon_ms: int = 100
    fail_over_mac: int = FAIL_OVER_MAC_NONE
    """With ``FAIL_OVER_MAC_ACTIVE`` all neighbours are forgotten at each switch, and what is sent
    waits for them (K: drivers/net/bonding/bond_main.c, bond_do_fail_over_mac (6.12))."""
    announcements: int = 3
    """How often each address is announced after the path has moved, by the kernel or by us."""
    announcement_spacing_ms: int = 100
    """Between two announcements of ours; the kernel's are ``miimon_ms`` apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthOptions:
    """Whether and how the path behind a VF is watched."""

    gateway: bool = False
    """Ask the default gateways through the active port."""
    interval_s: float = 5.0
    hold_down_s: float = 30.0
    """How long a VF without a path is avoided the first time; doubles up to an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairPolicy:
    """What the operator wants of one pair."""

    mac: str
    bond_name: str | None = None
    options: BondOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the operator wants; every field has a default that works.

    NICs are named by permanent MAC, by PCI address or by driver.
    """

    bond_name: str = "bond%d"
    only: frozenset[str] | None = None
    """The NICs that are bonded, and no others; None for all."""
    unseen: bool = False
    """Whether a virtio-net NIC is bonded although no VF of its MAC was ever seen."""
    excluded: frozenset[str] = frozenset()
    """NICs that are never bonded."""
    pairs: tuple[PairPolicy, ...] = ()
    control_group: str | None = None
    """Group that may use the control socket beside root."""
    options: BondOptions = BondOptions()
    health: HealthOptions = HealthOptions()

    def of_pair(self, mac: str) -> PairPolicy:
        """Return what is wanted of a pair."""
        known = (item for item in self.pairs if item.mac == mac)
        return next(known, PairPolicy(mac=mac, options=self.options))
