"""A pair in a static configuration, and the files of one. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from guestagent.guest.core.addressing import Address, Route
from guestagent.guest.core.policy import BondOptions
from guestagent.guest.stacks.ini import Section

AF_INET, AF_INET6 = 2, 10
"""Address families as Linux numbers them; a pure module imports no sockets."""
RTPROT_BOOT, RTPROT_STATIC, RTPROT_RA, RTPROT_DHCP = 3, 4, 9, 16
MAIN_TABLE = 254
ONLINK = 0x4
_IPV6_METRIC = 1024
_PERMANENT = 0x80
_GLOBAL = 0
_HOST_LENGTH = 128

FAIL_OVER_MAC = {0: "none", 1: "active", 2: "follow"}
"""Names of the values of fail_over_mac, the same for all stacks."""


class Target(StrEnum):
    """Program that reads the files."""

    NETWORKD = "networkd"
    NETPLAN = "netplan"
    NETWORKMANAGER = "networkmanager"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of a configuration; only root can read a ``private`` one."""

    name: str
    content: str
    private: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Sources of the addresses of a link, and its static addresses and routes."""

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
    """A pair with its complete static configuration."""

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
    """The file by which systemd-networkd configures the pair now; None if it does not."""
    networkd_source: str = ""


def settings(addresses: tuple[Address, ...], routes: tuple[Route, ...]) -> Settings:
    """Separate static addresses and routes from those of DHCP and router advertisements.

    An address with a lifetime comes from one of the two. A route has its origin in its protocol
    (K: include/uapi/linux/rtnetlink.h, RTPROT_DHCP, RTPROT_RA).
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
    )


def destination(route: Route) -> str | None:
    """Return the destination with its prefix length, None for the default route."""
    if route.destination is None or route.prefix_length == 0:
        return None
    return f"{route.destination}/{route.prefix_length}"


def destination_or_any(route: Route) -> str:
    """Return the destination with its prefix length, ``::/0`` or ``0.0.0.0/0`` for any."""
    return destination(route) or ("::/0" if route.family == AF_INET6 else "0.0.0.0/0")


def metric(route: Route) -> int | None:
    """Return the metric of a route, None for the kernel's default."""
    is_default = route.family == AF_INET6 and route.metric == _IPV6_METRIC
    return None if is_default or not route.metric else route.metric


def _is_static(route: Route, *, dhcp4: bool) -> bool:
    """Whether a route belongs to a static configuration.

    dhclient and dhcpcd do not set RTPROT_DHCP. Beside a lease, a default route without it counts
    as theirs.
    """
    if route.protocol in {RTPROT_DHCP, RTPROT_RA}:
        return False
    by_a_client = dhcp4 and route.family == AF_INET and route.protocol == RTPROT_BOOT
    return not (by_a_client and destination(route) is None)
