"""Routes through links, read completely so that they can be moved to another link unchanged.

Attributes that are not interpreted here (metrics, realms, encapsulation …) are kept as the kernel
encodes them. rtnetlink(7); K: include/uapi/linux/rtnetlink.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_interface

from guestagent.guest.core.addressing import Address, Route
from guestagent.guest.kernel import addresses
from guestagent.netlink import uapi
from guestagent.netlink.codec import NetlinkMessage, ip_address, number, pack, u8, u32, unpack
from guestagent.netlink.rtnetlink import RtnetlinkSocket

_USER_HZ = 100
_RTMSG = struct.Struct("=BBBBBBBBI")
_RTNEXTHOP = struct.Struct("=HBBi")
_INTERPRETED = {
    *(uapi.RTA_DST, uapi.RTA_OIF, uapi.RTA_GATEWAY, uapi.RTA_PRIORITY, uapi.RTA_PREFSRC),
    *(uapi.RTA_CACHEINFO, uapi.RTA_TABLE, uapi.RTA_PREF, uapi.RTA_EXPIRES, uapi.RTA_PAD),
    uapi.RTA_NH_ID,
}
_GONE = {errno.ENODEV, errno.ESRCH}


def routes(
    rtnetlink: RtnetlinkSocket, ifindex: int, *, hears_routers: bool = False
) -> tuple[Route, ...]:
    """Return the routes through this link alone, without those that the kernel derived itself.

    If the kernel accepts router advertisements on the link (``hears_routers``), it makes its
    own default route again on the other link at the next advertisement. Until then a moved
    default route replaces it, with the next higher metric: beside a route to the same router
    with the same metric the kernel adds none of its own, and without one of its own it ignores
    further advertisements, so that the address would expire (K: net/ipv6/ndisc.c,
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
    ifindex: int, messages: list[NetlinkMessage], prefixes: frozenset[tuple[str, int]]
) -> Iterator[Route]:
    """Yield the routes through a link; an IPv4 route behind another of its key is marked so."""
    before: set[tuple[object, ...]] = set()
    for message in messages:
        route = _decode(message, ifindex, prefixes)
        if route is None:
            before.add(_key(message))
        elif route.family == socket.AF_INET and _key(message) in before:
            yield replace(route, shadowed=True)
        else:
            yield route


def _key(message: NetlinkMessage) -> tuple[object, ...]:
    """Return the key that several IPv4 routes may share; the kernel uses the first of them.

    A dump has them in that order (K: net/ipv4/fib_trie.c, fn_trie_dump_leaf (6.12)).
    """
    family, length, _, tos, table, *_ = _RTMSG.unpack(message.fixed)
    found = message.attributes
    table = number(found, uapi.RTA_TABLE) or table
    metric = number(found, uapi.RTA_PRIORITY) or 0
    return family, table, found.get(uapi.RTA_DST), length, tos, metric


def _is_to_router(route: Route) -> bool:
    """Whether a route is a default route from a router advertisement."""
    is_default6 = route.family == socket.AF_INET6 and route.destination is None
    return is_default6 and route.protocol == uapi.RTPROT_RA


def shared_routes(rtnetlink: RtnetlinkSocket, ifindex: int) -> int:
    """Count the routes with a link as one of several next hops, or in a next-hop object."""
    return sum(_is_shared(message, ifindex) for message in _all(rtnetlink))


def put_route(rtnetlink: RtnetlinkSocket, ifindex: int, route: Route) -> None:
    """Add a route through a link, in place of one with the same destination and metric.

    IPv4 replaces the first route with this key. A ``shadowed`` route is therefore appended and
    replaces nothing: the default routes that networkd gets by DHCP share one metric, and the
    first may belong to another NIC. IPv6 keeps one entry for each next hop. In both cases the
    caller deletes the former route.

    The kernel answers EEXIST for a route that exists already: for IPv6 always, for IPv4 if
    another route precedes it (K: net/ipv6/ip6_fib.c, fib6_add_rt2node; net/ipv4/fib_trie.c,
    fib_table_insert (6.12)). This is no error.
    """
    if route.metric_elsewhere is not None:
        route = replace(route, metric=route.metric_elsewhere)
    attributes = _attributes(ifindex, route)
    if route.expires_s is not None:
        attributes[uapi.RTA_EXPIRES] = u32(route.expires_s)
    flags = uapi.NLM_F_CREATE
    if route.family == socket.AF_INET:
        flags |= uapi.NLM_F_APPEND if route.shadowed else uapi.NLM_F_REPLACE
    rtnetlink.send(
        f"route {_shown(route)} through link {ifindex}",
        uapi.RTM_NEWROUTE,
        _header(route) + pack(attributes),
        flags,
        ignored={errno.EEXIST},
    )


def delete_route(rtnetlink: RtnetlinkSocket, ifindex: int, route: Route) -> None:
    """Delete a route if it exists."""
    what = f"delete route {_shown(route)} through link {ifindex}"
    payload = _header(route) + pack(_attributes(ifindex, route))
    rtnetlink.send(what, uapi.RTM_DELROUTE, payload, ignored=_GONE)


def _all(rtnetlink: RtnetlinkSocket) -> list[NetlinkMessage]:
    found: list[NetlinkMessage] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        request = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        found += rtnetlink.dump("list routes", uapi.RTM_GETROUTE, request, _RTMSG.size)
    return found


def _prefixes(given: tuple[Address, ...]) -> frozenset[tuple[str, int]]:
    """Return the prefixes whose route was not made by the kernel.

    NetworkManager sets noprefixroute and adds the route itself, marked as the kernel's (proto
    kernel), with its own metric.
    """
    return frozenset(
        (str(network.network_address), network.prefixlen)
        for address in given
        if address.flags & uapi.IFA_F_NOPREFIXROUTE
        for network in (ip_interface(f"{address.address}/{address.prefix_length}").network,)
    )


def _decode(
    message: NetlinkMessage, ifindex: int, prefixes: frozenset[tuple[str, int]]
) -> Route | None:
    """Return the route, or None if it uses another link or the kernel derived it.

    Routes with protocol kernel to one of ``prefixes`` were added by a network stack.
    """
    fixed = _RTMSG.unpack(message.fixed)
    family, dst_len, src_len, tos, table, protocol, scope, kind, flags = fixed
    attributes = message.attributes
    if (
        number(attributes, uapi.RTA_OIF) != ifindex
        or protocol in {uapi.RTPROT_UNSPEC, uapi.RTPROT_REDIRECT}
        or flags & uapi.RTM_F_CLONED
    ):
        return None
    destination = ip_address(family, attributes, uapi.RTA_DST)
    if protocol == uapi.RTPROT_KERNEL and (destination, dst_len) not in prefixes:
        return None
    rest = {key: value for key, value in attributes.items() if key not in _INTERPRETED}
    preference = attributes.get(uapi.RTA_PREF)
    return Route(
        family=family,
        destination=destination,
        prefix_length=dst_len,
        gateway=ip_address(family, attributes, uapi.RTA_GATEWAY),
        source=ip_address(family, attributes, uapi.RTA_PREFSRC),
        table=number(attributes, uapi.RTA_TABLE) or table,
        protocol=protocol,
        scope=scope,
        kind=kind,
        tos=tos,
        from_length=src_len,
        metric=number(attributes, uapi.RTA_PRIORITY),
        flags=flags & uapi.RTNH_F_ONLINK,
        preference=None if preference is None else preference[0],
        expires_s=_expires_s(attributes),
        mtu=number(unpack(attributes.get(uapi.RTA_METRICS, b"")), uapi.RTAX_MTU),
        rest=pack(rest).hex(),
    )


def _is_shared(message: NetlinkMessage, ifindex: int) -> bool:
    data = message.attributes.get(uapi.RTA_MULTIPATH, b"")
    at = 0
    while at + _RTNEXTHOP.size <= len(data):
        size, _, _, link = _RTNEXTHOP.unpack_from(data, at)
        if link == ifindex:
            return True
        if size < _RTNEXTHOP.size:
            break
        at += (size + 3) & ~3
    # networkd uses one next-hop object for each router; a route without object can replace it.
    by_router = _RTMSG.unpack(message.fixed)[5] == uapi.RTPROT_RA
    by_object = number(message.attributes, uapi.RTA_NH_ID) is not None and not by_router
    return by_object and number(message.attributes, uapi.RTA_OIF) == ifindex


def _expires_s(attributes: dict[int, bytes]) -> int | None:
    """Return the remaining lifetime: rta_expires of struct rta_cacheinfo, in USER_HZ."""
    data = attributes.get(uapi.RTA_CACHEINFO, b"")
    ticks: int = struct.unpack_from("=i", data, 8)[0] if len(data) >= 12 else 0
    return ticks // _USER_HZ if ticks > 0 else None


def _header(route: Route) -> bytes:
    table = route.table if route.table < 256 else 0
    numbers = (route.tos, table, route.protocol, route.scope, route.kind, route.flags)
    return _RTMSG.pack(route.family, route.prefix_length, route.from_length, *numbers)


def _attributes(ifindex: int, route: Route) -> dict[int, bytes]:
    attributes = {uapi.RTA_TABLE: u32(route.table), uapi.RTA_OIF: u32(ifindex)}
    for kind, address in (
        (uapi.RTA_DST, route.destination),
        (uapi.RTA_GATEWAY, route.gateway),
        (uapi.RTA_PREFSRC, route.source),
    ):
        if address is not None:
            attributes[kind] = socket.inet_pton(route.family, address)
    if route.metric is not None:
        attributes[uapi.RTA_PRIORITY] = u32(route.metric)
    if route.preference is not None:
        attributes[uapi.RTA_PREF] = u8(route.preference)
    return attributes | unpack(bytes.fromhex(route.rest))


def _shown(route: Route) -> str:
    return f"{route.destination or 'default'}/{route.prefix_length}"
