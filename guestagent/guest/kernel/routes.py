"""Routes through links: read whole, and written so that they are the same through another.

Attributes that are not looked at here (metrics, realms, encapsulation …) are kept
as the kernel spells them. rtnetlink(7); K: include/uapi/linux/rtnetlink.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_interface

from guestagent.guest.core.model import Address, Route
from guestagent.guest.kernel import addresses
from guestagent.guest.kernel.protocol import KernelError
from guestagent.guest.kernel.rtnetlink import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_REPLACE,
    Message,
    RtNetlink,
    ip_address,
    number,
    packed,
    u32,
    unpacked,
)

RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC = 1, 4, 5, 6, 7
RTA_METRICS, RTA_MULTIPATH, RTA_CACHEINFO, RTA_TABLE = 8, 9, 12, 15
RTA_PREF, RTA_EXPIRES, RTA_PAD, RTA_NH_ID = 20, 23, 26, 30
RTAX_MTU = 2
ROUTE_PROTOCOL_UNKNOWN = 0
ROUTE_PROTOCOL_REDIRECT = 1
ROUTE_PROTOCOL_KERNEL = 2
ROUTE_PROTOCOL_RA = 9
IFA_F_NOPREFIXROUTE = 0x200
ROUTE_FLAG_CLONED = 0x200
ROUTE_FLAG_ONLINK = 0x4
_USER_HZ = 100
_FIXED = struct.Struct("=BBBBBBBBI")
_NEXT_HOP = struct.Struct("=HBBi")
_KNOWN = {
    *(RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_CACHEINFO, RTA_TABLE),
    *(RTA_PREF, RTA_EXPIRES, RTA_PAD, RTA_NH_ID),
}
_GONE = {errno.ENODEV, errno.ESRCH}


def routes(
    rtnetlink: RtNetlink, ifindex: int, *, hears_routers: bool = False
) -> tuple[Route, ...]:
    """Return the routes through a link alone that the kernel did not make by itself.

    Where it ``hears_routers``, those to a router that it has learnt of are made by it after
    all, and on another link again as soon as the router speaks there. Until then they
    are stood in for, by a metric that is the next one: to the same router with the same
    metric the kernel has no second route, and without one of its own it takes no
    more advertisements, so that the address would expire (K: net/ipv6/ndisc.c,
    ndisc_router_discovery; net/ipv6/route.c, rt6_get_dflt_router (6.12)).
    """
    prefixes = _prefixes(addresses.addresses(rtnetlink, ifindex))
    return tuple(
        replace(route, metric_elsewhere=route.metric + 1)
        if hears_routers and route.metric is not None and _is_to_router(route)
        else route
        for route in _through(ifindex, _all(rtnetlink), prefixes)
    )


def _through(
    ifindex: int, messages: list[Message], prefixes: frozenset[tuple[str, int]]
) -> Iterator[Route]:
    """Yield the routes through a link; those of IPv4 with whether another comes before them."""
    before: set[tuple[object, ...]] = set()
    for message in messages:
        route = _decoded(message, ifindex, prefixes)
        if route is None:
            before.add(_key(message))
        elif route.family == socket.AF_INET and _key(message) in before:
            yield replace(route, behind=True)
        else:
            yield route


def _key(message: Message) -> tuple[object, ...]:
    """Return what several routes of IPv4 may have in common; the first of them is taken.

    They are listed in that order (K: net/ipv4/fib_trie.c, fn_trie_dump_leaf (6.12)).
    """
    family, length, _, tos, table, *_ = _FIXED.unpack(message.fixed)
    found = message.attributes
    metric = number(found, RTA_PRIORITY) or 0
    return family, number(found, RTA_TABLE) or table, found.get(RTA_DST), length, tos, metric


def _is_to_router(route: Route) -> bool:
    """Whether it is a default route that a router advertisement has brought."""
    return (route.family, route.destination, route.protocol) == (
        socket.AF_INET6,
        None,
        ROUTE_PROTOCOL_RA,
    )


def shared_routes(rtnetlink: RtNetlink, ifindex: int) -> int:
    """Return how many routes have a link as one of several next hops, or by a next-hop object."""
    return sum(_is_shared(message, ifindex) for message in _all(rtnetlink))


def put_route(rtnetlink: RtNetlink, ifindex: int, route: Route) -> None:
    """Add a route through a link, in place of one to the same destination and metric.

    What is replaced is the first of those, so one that was ``behind`` another comes last and
    replaces nothing: networkd's default routes by DHCP all have one metric, and the first
    may be another NIC's. The former one is then deleted apart.

    IPv6 keeps one entry for each next hop: there the former one is deleted
    apart. One that is there already is answered with EEXIST, which is fine: by
    IPv6 always, by IPv4 when another one comes before it (K: net/ipv6/ip6_fib.c,
    fib6_add_rt2node; net/ipv4/fib_trie.c, fib_table_insert (6.12)).
    """
    if route.metric_elsewhere is not None:
        route = replace(route, metric=route.metric_elsewhere)
    attributes = _naming(ifindex, route)
    if route.expires_s is not None:
        attributes[RTA_EXPIRES] = u32(route.expires_s)
    flags = NLM_F_CREATE
    if route.family == socket.AF_INET:
        flags |= NLM_F_APPEND if route.behind else NLM_F_REPLACE
    try:
        rtnetlink.send(
            f"route {_shown(route)} through link {ifindex}",
            RTM_NEWROUTE,
            _fixed(route) + packed(attributes),
            flags,
        )
    except KernelError as error:
        if error.code != errno.EEXIST:
            raise


def delete_route(rtnetlink: RtNetlink, ifindex: int, route: Route) -> None:
    """Delete a route; one that is gone already is fine."""
    what = f"delete route {_shown(route)} through link {ifindex}"
    try:
        rtnetlink.send(what, RTM_DELROUTE, _fixed(route) + packed(_naming(ifindex, route)))
    except KernelError as error:
        if error.code not in _GONE:
            raise


def _all(rtnetlink: RtNetlink) -> list[Message]:
    found: list[Message] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        request = _FIXED.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        found += rtnetlink.dump("list routes", RTM_GETROUTE, request, _FIXED.size)
    return found


def _prefixes(given: tuple[Address, ...]) -> frozenset[tuple[str, int]]:
    """Return the prefixes for which somebody else than the kernel has made the route.

    NetworkManager has the kernel make none (noprefixroute), and makes it as the
    kernel would, with a metric of its own.
    """
    return frozenset(
        (str(network.network_address), network.prefixlen)
        for address in given
        if address.flags & IFA_F_NOPREFIXROUTE
        for network in (ip_interface(f"{address.address}/{address.prefix_length}").network,)
    )


def _decoded(message: Message, ifindex: int, prefixes: frozenset[tuple[str, int]]) -> Route | None:
    """Return the route, or None when it leaves elsewhere or is the kernel's own.

    Of those that bear the kernel's name, the ones to ``prefixes`` are somebody else's.
    """
    fixed = _FIXED.unpack(message.fixed)
    family, dst_len, src_len, tos, table, protocol, scope, kind, flags = fixed
    attributes = message.attributes
    if (
        number(attributes, RTA_OIF) != ifindex
        or protocol in {ROUTE_PROTOCOL_UNKNOWN, ROUTE_PROTOCOL_REDIRECT}
        or flags & ROUTE_FLAG_CLONED
    ):
        return None
    destination = ip_address(family, attributes, RTA_DST)
    if protocol == ROUTE_PROTOCOL_KERNEL and (destination, dst_len) not in prefixes:
        return None
    rest = {key: value for key, value in attributes.items() if key not in _KNOWN}
    preference = attributes.get(RTA_PREF)
    return Route(
        family=family,
        destination=destination,
        prefix_length=dst_len,
        gateway=ip_address(family, attributes, RTA_GATEWAY),
        source=ip_address(family, attributes, RTA_PREFSRC),
        table=number(attributes, RTA_TABLE) or table,
        protocol=protocol,
        scope=scope,
        kind=kind,
        tos=tos,
        from_length=src_len,
        metric=number(attributes, RTA_PRIORITY),
        flags=flags & ROUTE_FLAG_ONLINK,
        preference=None if preference is None else preference[0],
        expires_s=_expires_s(attributes),
        mtu=number(unpacked(attributes.get(RTA_METRICS, b"")), RTAX_MTU),
        rest=packed(rest).hex(),
    )


def _is_shared(message: Message, ifindex: int) -> bool:
    data = message.attributes.get(RTA_MULTIPATH, b"")
    at = 0
    while at + _NEXT_HOP.size <= len(data):
        size, _, _, link = _NEXT_HOP.unpack_from(data, at)
        if link == ifindex:
            return True
        if size < _NEXT_HOP.size:
            break
        at += (size + 3) & ~3
    # networkd has an object for each router, which a route without one can replace.
    by_router = _FIXED.unpack(message.fixed)[5] == ROUTE_PROTOCOL_RA
    by_object = number(message.attributes, RTA_NH_ID) is not None and not by_router
    return by_object and number(message.attributes, RTA_OIF) == ifindex


def _expires_s(attributes: dict[int, bytes]) -> int | None:
    """Return the remaining lifetime: the third number of struct rta_cacheinfo, in USER_HZ."""
    data = attributes.get(RTA_CACHEINFO, b"")
    ticks: int = struct.unpack_from("=i", data, 8)[0] if len(data) >= 12 else 0
    return ticks // _USER_HZ if ticks > 0 else None


def _fixed(route: Route) -> bytes:
    table = route.table if route.table < 256 else 0
    numbers = (route.tos, table, route.protocol, route.scope, route.kind, route.flags)
    return _FIXED.pack(route.family, route.prefix_length, route.from_length, *numbers)


def _naming(ifindex: int, route: Route) -> dict[int, bytes]:
    attributes = {RTA_TABLE: u32(route.table), RTA_OIF: u32(ifindex)}
    for kind, address in (
        (RTA_DST, route.destination),
        (RTA_GATEWAY, route.gateway),
        (RTA_PREFSRC, route.source),
    ):
        if address is not None:
            attributes[kind] = socket.inet_pton(route.family, address)
    if route.metric is not None:
        attributes[RTA_PRIORITY] = u32(route.metric)
    if route.preference is not None:
        attributes[RTA_PREF] = bytes([route.preference])
    return attributes | unpacked(bytes.fromhex(route.rest))


def _shown(route: Route) -> str:
    return f"{route.destination or 'default'}/{route.prefix_length}"
