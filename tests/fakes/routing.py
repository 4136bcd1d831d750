"""Routes of the fake kernel. Pure."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import replace

from guestagent.guest.core.addressing import Address, Route

Routed = dict[int, list[Route]]
"""The routes of each link."""
Places = dict[tuple[int, tuple[object, ...]], int]


def same_key(route: Route) -> tuple[object, ...]:
    """Return the key by which the kernel identifies a route, without its next hop."""
    where = (route.family, route.destination, route.prefix_length)
    return (*where, route.table, route.tos, route.metric)


def reaches(gateway: str, addresses: Iterable[Address], routes: Iterable[Route]) -> bool:
    """Whether an address or a route of a link leads to a gateway."""
    near = [(item.address, item.prefix_length) for item in addresses]
    near += [
        (route.destination, route.prefix_length)
        for route in routes
        if route.destination is not None and route.gateway is None
    ]
    host = ipaddress.ip_address(gateway)
    return any(
        host in ipaddress.ip_network(f"{address}/{length}", strict=False)
        for address, length in near
    )


def reported(routed: Routed, places: Places, ifindex: int) -> tuple[Route, ...]:
    """Return the routes through one link alone."""
    # Routes of IPv6 that differ in the next hop alone are one with several next hops.
    elsewhere = {
        same_key(route)
        for other, routes in routed.items()
        for route in routes
        if other != ifindex and route.family == socket.AF_INET6
    }
    return tuple(
        replace(route, shadowed=_holders(routed, places, route)[:1] not in ([], [ifindex]))
        for route in routed.get(ifindex, ())
        if same_key(route) not in elsewhere
    )


def place(routed: Routed, places: Places, ifindex: int, route: Route) -> None:
    """Put a route in the place of the first with its key, or of none if it is behind another."""
    if route.family == socket.AF_INET6:
        unroute(routed, places, ifindex, route)
    else:
        holders = _holders(routed, places, route)
        if ifindex in holders[1:]:
            return
        if route.shadowed:
            places[ifindex, same_key(route)] = len(holders)
        elif holders:
            unroute(routed, places, holders[0], route)
    routed.setdefault(ifindex, []).append(replace(route, shadowed=False))


def unroute(routed: Routed, places: Places, ifindex: int, route: Route) -> None:
    """Take a route away from a link."""
    key = same_key(route)
    kept = [item for item in routed.get(ifindex, ()) if same_key(item) != key]
    routed[ifindex] = kept
    places.pop((ifindex, key), None)


def _holders(routed: Routed, places: Places, route: Route) -> list[int]:
    """Return the links that have a route of IPv4 with that key, in their order."""
    key = same_key(route)
    found = [link for link, routes in routed.items() if key in map(same_key, routes)]
    return sorted(found, key=lambda link: places.get((link, key), 0)) if _is_4(route) else []


def _is_4(route: Route) -> bool:
    return route.family == socket.AF_INET
