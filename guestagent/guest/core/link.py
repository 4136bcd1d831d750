"""A network device and the state of a bond, as values. Pure.

The identity of a link is its ifindex, because udev renames links.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum

from guestagent.guest.core.addressing import Address, Addressing, Setting

OWNED_ALIAS = "guestagent:"
"""Prefix of the ``ifalias`` of every complete bond of the agent."""

PENDING_GROUP = 0x67610001
"""Group (IFLA_GROUP) of a bond of the agent between its creation and its alias.

The kernel takes the group in the create message but not the alias
(K: net/core/rtnetlink.c, rtnl_create_link (6.12)), so the agent recognises its
bond from the first moment, and repairs it after a crash in between.
"""

STANDBY_DRIVER = "virtio_net"


def bond_alias(mac: str) -> str:
    """Return the alias that marks the bond of a pair."""
    return f"{OWNED_ALIAS} pair {mac}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRef:
    """A NIC in an action or a message: the ifindex decides, the name is for people."""

    ifindex: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BondState:
    """State of a bond as the kernel reports it."""

    mode: str
    active: int | None = None
    """ifindex of the active port."""
    primary: int | None = None
    """ifindex of the primary port; None when it is unset or names no present port."""
    miimon_ms: int = 0
    fail_over_mac: int = 0
    primary_reselect: int = 0
    announcements: int = 0
    """Number of the kernel's announcements after a change of the active port."""
    all_ports_active: bool = False
    """Whether the bond accepts frames on its inactive port (the switch window is open)."""
    path_stable: bool = False
    """Whether ports and active port have not changed for the length of a switch window."""
    drained: bool = False
    """Whether a bond under teardown has had no address for the drain time."""


class Autoconfiguration(StrEnum):
    """The only maker of a NIC's IPv6 addresses."""

    KERNEL = "kernel"
    ROUTERS = "routers"
    """The network stack listens to routers; the kernel makes the link-local address."""
    STACK = "stack"
    """The network stack makes all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A network device.

    A field that the observer reads for some links alone is None for the others.
    """

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
    """Whether the kernel transmits on it, which begins later than the carrier.

    Until its linkwatch has run, the kernel silently drops packets for a NIC with a carrier
    (K: net/core/link_watch.c, linkwatch_do_dev; net/sched/sch_generic.c, dev_activate
    (6.12)); the bond considers the carrier alone.
    """
    ipv6_addr_gen: bool = True
    """Whether the kernel makes a link-local address on it (addrgenmode is not none)."""
    upper: int | None = None
    """ifindex of its bond, bridge or other master."""
    lower: int | None = None
    """ifindex of the link below it (of a VLAN, macvlan …)."""
    alias: str | None = None
    group: int = 0
    net_failover: bool = False
    """Whether virtio's STANDBY feature gives it to the kernel's net_failover."""
    settled: bool = True
    """Whether udev has finished with it, name included, or has had its time."""
    other_names: tuple[str, ...] = ()
    """Alternative names, which udev gives it beside its own."""
    bond: BondState | None = None
    addresses: tuple[Address, ...] | None = None
    """Read for a standby outside its bond, and for a bond under teardown."""
    addressing: Addressing | None = None
    """Read where ``addresses`` may be moved next."""
    settings: tuple[Setting, ...] | None = None
    """Settings of a standby that its bond does not have yet; read before it joins."""
    unmovable: tuple[str, ...] | None = None
    """Descriptions of parts that cannot be moved to another link; read before a standby joins."""
    conflict: str | None = None
    """Reason why the configuration of its network stack keeps it out of a bond, or None."""
    autoconfiguration: Autoconfiguration = Autoconfiguration.KERNEL
    """Maker of the IPv6 addresses of a standby outside its bond."""

    @property
    def ref(self) -> PortRef:
        """Reference to this link for an action."""
        return PortRef(ifindex=self.ifindex, name=self.name)

    @property
    def physical(self) -> bool:
        """Whether a device stands behind it: no VLAN, bond, bridge or the like."""
        return self.kind is None and self.driver is not None

    @property
    def ours(self) -> bool:
        """Whether it is a bond of the agent, complete or not."""
        return self.kind == "bond" and (self.complete or self.group == PENDING_GROUP)

    @property
    def complete(self) -> bool:
        """Whether the alias marks a bond of the agent as complete."""
        return (self.alias or "").startswith(OWNED_ALIAS)

    @property
    def pair_mac(self) -> str:
        """MAC of the pair to which a bond of the agent belongs."""
        return (self.alias or "").removeprefix(bond_alias("")) if self.complete else self.address

    def is_port_of(self, bond: Link | None) -> bool:
        """Whether it is a port of this bond; False without a bond."""
        return bond is not None and self.upper == bond.ifindex

    def is_among(self, names: AbstractSet[str]) -> bool:
        """Whether ``names`` has its permanent MAC, its PCI address or its driver."""
        return not names.isdisjoint(
            {self.permanent_address or "", self.bus_address or "", self.driver or ""}
        )

    def serves(self, mac: str) -> bool:
        """Whether it is the agent's bond for a pair.

        The alias decides: a bond whose ports have all left takes a random MAC, and
        that of the next port that joins (K: drivers/net/bonding/bond_main.c,
        bond_release_and_destroy, bond_enslave (6.12)).
        """
        return self.ours and self.pair_mac == mac
