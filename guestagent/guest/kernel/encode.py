"""From values of the model to the messages of rtnetlink.

Messages are built attribute by attribute, because the keyword filters of
pyroute2 differ between 0.7 and 0.9 while its message classes do not; unknown
attributes are dropped by it in silence, so only attributes that 0.7.2 knows
are used.
"""

from __future__ import annotations

import socket
from typing import Any

from guestagent.guest.kernel.pyroute import ifaddrmsg, rtmsg
from guestagent.guest.model import Address, BondOptions, Route

IFA_F_NODAD = 0x02
_KEPT_FLAGS = 0x10 | 0x100 | 0x200 | 0x400  # home, managetempaddr, noprefixroute, mcautojoin
_IN6_ADDR_GEN_MODE_EUI64 = 0
_IN6_ADDR_GEN_MODE_NONE = 1
_ACTIVE_BACKUP = 1
_PRIMARY_RESELECT_ALWAYS = 0
_FOR_EVER = 0xFFFFFFFF

Attrs = list[tuple[str, Any]]


def bond_options(options: BondOptions) -> tuple[str, Any]:
    """Return the attribute that makes a new link an active-backup bond."""
    return bond_data(
        [
            ("IFLA_BOND_MODE", _ACTIVE_BACKUP),
            ("IFLA_BOND_MIIMON", options.miimon_ms),
            ("IFLA_BOND_PRIMARY_RESELECT", _PRIMARY_RESELECT_ALWAYS),
            ("IFLA_BOND_FAIL_OVER_MAC", options.fail_over_mac),
            ("IFLA_BOND_NUM_PEER_NOTIF", options.announcements),
        ]
    )


def bond_data(data: Attrs) -> tuple[str, Any]:
    """Return the attribute that carries options of a bond."""
    info = [("IFLA_INFO_KIND", "bond"), ("IFLA_INFO_DATA", {"attrs": data})]
    return ("IFLA_LINKINFO", {"attrs": info})


def quietness(*, quiet: bool) -> tuple[str, Any]:
    """Return the attribute for addrgenmode none, or eui64 (K: net/ipv6/addrconf.c)."""
    mode = _IN6_ADDR_GEN_MODE_NONE if quiet else _IN6_ADDR_GEN_MODE_EUI64
    inet6 = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", mode)]}
    return ("IFLA_AF_SPEC", {"attrs": [("AF_INET6", inet6)]})


def new_address_message(ifindex: int, address: Address) -> Any:
    """Return the message that gives an address to a link; IPv6 without DAD."""
    message = address_message(ifindex, address)
    flags = address.flags & _KEPT_FLAGS
    if address.family == socket.AF_INET6:
        flags |= IFA_F_NODAD
    message["attrs"].append(("IFA_FLAGS", flags))
    if address.broadcast is not None:
        message["attrs"].append(("IFA_BROADCAST", address.broadcast))
    if address.valid_s is not None or address.preferred_s is not None:
        lifetimes = {
            "ifa_preferred": _FOR_EVER if address.preferred_s is None else address.preferred_s,
            "ifa_valid": _FOR_EVER if address.valid_s is None else address.valid_s,
            "cstamp": 0,
            "tstamp": 0,
        }
        message["attrs"].append(("IFA_CACHEINFO", lifetimes))
    return message


def address_message(ifindex: int, address: Address) -> Any:
    """Return the message that names an address of a link."""
    message = ifaddrmsg()
    message["family"] = address.family
    message["index"] = ifindex
    message["prefixlen"] = address.prefix_length
    message["scope"] = address.scope
    attrs: Attrs = [
        ("IFA_LOCAL", address.address),
        ("IFA_ADDRESS", address.peer or address.address),
    ]
    if address.family == socket.AF_INET6 and address.peer is None:
        attrs = [("IFA_ADDRESS", address.address)]
    message["attrs"] = attrs
    return message


def route_message(ifindex: int, route: Route) -> Any:
    """Return the message that names a route through a link."""
    message = rtmsg()
    message["family"] = route.family
    message["dst_len"] = route.prefix_length
    message["table"] = route.table if route.table < 256 else 0
    message["proto"] = route.protocol
    message["scope"] = route.scope
    message["type"] = route.kind
    message["flags"] = route.flags
    attrs: Attrs = [("RTA_TABLE", route.table), ("RTA_OIF", ifindex)]
    for attribute, value in (
        ("RTA_DST", route.destination),
        ("RTA_GATEWAY", route.gateway),
        ("RTA_PREFSRC", route.source),
        ("RTA_PRIORITY", route.metric),
        ("RTA_PREF", route.preference),
    ):
        if value is not None:
            attrs.append((attribute, value))
    if route.metrics:
        attrs.append(("RTA_METRICS", {"attrs": list(route.metrics)}))
    message["attrs"] = attrs
    return message
