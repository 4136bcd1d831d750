"""A pair as a static configuration describes it, and the files of such a description. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from guestagent.guest.core.model import Address, BondOptions, Route

AF_INET, AF_INET6 = 2, 10
"""Address families as Linux numbers them; a pure module imports no sockets."""
RTPROT_BOOT, RTPROT_STATIC, RTPROT_RA, RTPROT_DHCP = 3, 4, 9, 16
MAIN_TABLE = 254
ONLINK = 0x4
_IPV6_METRIC = 1024
_PERMANENT = 0x80
_GLOBAL = 0
_HOST_LENGTH = 128

Section = tuple[str, tuple[tuple[str, str], ...]]
"""A section of a unit-style file: its name, its keys and values in order."""


class Target(StrEnum):
    """What the files are written for."""

    NETWORKD = "networkd"
    NETPLAN = "netplan"
    NETWORKMANAGER = "networkmanager"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of a configuration; ``private`` ones are for root alone."""

    name: str
    content: str
    private: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a link gets its addresses, and those that it has for good."""

    dhcp4: bool = False
    dhcp6: bool = False
    accept_ra: bool = False
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Vlan:
    """A VLAN on the bond."""

    name: str
    tag: int
    mtu: int
    settings: Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticPair:
    """A pair with all that its static configuration says."""

    bond: str
    mac: str
    mtu: int
    options: BondOptions
    vf_name: str | None
    """None while the VF is away."""
    vf_driver: str | None
    settings: Settings
    vlans: tuple[Vlan, ...] = ()
    networkd: tuple[Section, ...] | None = None
    """What systemd-networkd's own file says, where that configures the pair now."""
    networkd_source: str = ""


def settings(
    addresses: tuple[Address, ...],
    routes: tuple[Route, ...],
    *,
    dns: tuple[str, ...] = (),
    domains: tuple[str, ...] = (),
) -> Settings:
    """Tell from addresses and routes what is static and where the rest comes from.

    A lifetime that ends is a lease or a router advertisement; so is what a route's origin
    says (K: include/uapi/linux/rtnetlink.h, RTPROT_DHCP, RTPROT_RA).
    """
    shown = [item for item in addresses if item.scope == _GLOBAL]
    leased = [item for item in shown if not item.flags & _PERMANENT]
    v6 = [item for item in leased if item.family == AF_INET6]
    origins = {(route.family, route.protocol) for route in routes}
    dhcp4 = any(item.family == AF_INET for item in leased) or (AF_INET, RTPROT_DHCP) in origins
    return Settings(
        dhcp4=dhcp4,
        dhcp6=any(item.prefix_length == _HOST_LENGTH for item in v6),
        accept_ra=bool(v6) or (AF_INET6, RTPROT_RA) in origins,
        addresses=tuple(item for item in shown if item not in leased),
        routes=tuple(route for route in routes if _is_static(route, dhcp4=dhcp4)),
        dns=dns,
        domains=domains,
    )


def destination(route: Route) -> str | None:
    """Return the destination with its prefix length, None for the default route."""
    if route.destination is None or route.prefix_length == 0:
        return None
    return f"{route.destination}/{route.prefix_length}"


def metric(route: Route) -> int | None:
    """Return the metric of a route unless it is the one that the kernel gives by itself."""
    by_itself = route.family == AF_INET6 and route.metric == _IPV6_METRIC
    return None if by_itself or not route.metric else route.metric


def _is_static(route: Route, *, dhcp4: bool) -> bool:
    """Whether somebody has set a route for good.

    dhclient and dhcpcd do not mark theirs as DHCP's, so beside a lease a default route
    without a mark is taken for theirs.
    """
    if route.protocol in {RTPROT_DHCP, RTPROT_RA}:
        return False
    by_a_client = dhcp4 and route.family == AF_INET and route.protocol == RTPROT_BOOT
    return not (by_a_client and destination(route) is None)
