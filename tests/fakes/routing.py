"""What the fake kernel knows of routes. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from guestagent.guest.model import Address, Route


def same_key(route: Route) -> tuple[object, ...]:
    """Return what makes two routes the same to the kernel, whatever their next hop."""
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
