"""Addresses, routes, rules, neighbours and settings of a link, as values. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

RP_FILTER = "ipv4/conf/rp_filter"
"""Key of the reverse path filter, which drops packets whose replies would leave elsewhere."""

ACCEPT_RA = "ipv6/conf/accept_ra"
"""Key of the setting by which the kernel accepts router advertisements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An IP address of a link, with all attributes that it keeps on another link."""

    family: int
    address: str
    prefix_length: int
    broadcast: str | None = None
    peer: str | None = None
    scope: int = 0
    flags: int = 0
    protocol: int = 0
    metric: int = 0
    """Metric of the route to its network that the kernel makes."""
    label: str | None = None
    """Name of an alias such as eth0:1."""
    preferred_s: int | None = None
    """Remaining preferred lifetime in seconds; None is for ever."""
    valid_s: int | None = None

    def renamed(self, old: str, new: str) -> Address:
        """Return the address with its label for another link: old:1 becomes new:1."""
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
    """Metric on another link; None for the same metric."""
    tos: int = 0
    shadowed: bool = False
    """Whether the kernel prefers another route with the same destination and metric."""
    from_length: int = 0
    """Length of the source prefix, which is in ``rest``."""
    mtu: int | None = None
    """MTU of the route, for display; ``rest`` has it too."""
    rest: str = ""
    """All other attributes (MTU, realms, encapsulation), opaque outside ``kernel/``."""
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
    """All other attributes, opaque outside ``kernel/``."""

    def renamed(self, old: str, new: str) -> Rule:
        """Return the rule for the link ``new`` in place of ``old``."""
        return replace(
            self,
            iif=new if self.iif == old else self.iif,
            oif=new if self.oif == old else self.oif,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A permanent neighbour, or a proxy neighbour that the link answers for."""

    family: int
    address: str
    hardware_address: str
    """Empty for a proxy neighbour."""
    proxy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting of a link below /proc/sys/net."""

    key: str
    """Such as ipv4/conf/rp_filter."""
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressing:
    """Everything that moves between a NIC and its bond at once."""

    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    rp_filter: bool = False
    """Whether the link may drop packets whose replies would leave through another link."""

    def __str__(self) -> str:
        counts = [f"{len(self.addresses)} addresses", f"{len(self.routes)} routes"]
        if self.rules:
            counts.append(f"{len(self.rules)} rules")
        if self.neighbours:
            counts.append(f"{len(self.neighbours)} neighbours")
        return f"{', '.join(counts[:-1])} and {counts[-1]}"
