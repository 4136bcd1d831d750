"""A pair in keyfile profiles of NetworkManager (nm-settings-keyfile(5)). Pure.

A bond's primary is a name there. The VF also has the higher priority of the ports, which counts
when it returns under another name (NetworkManager 1.44 with Linux 6.0 and later).
"""

from __future__ import annotations

from collections.abc import Iterator

from guestagent.guest.core.addressing import Address, Route
from guestagent.guest.core.link import STANDBY_DRIVER
from guestagent.guest.render.model import (
    AF_INET,
    AF_INET6,
    FAIL_OVER_MAC,
    MAIN_TABLE,
    ONLINK,
    File,
    Settings,
    StaticPair,
    destination_or_any,
    metric,
)
from guestagent.guest.stacks.ini import Section, write

DIRECTORY = "/etc/NetworkManager/system-connections"
_FOLLOWS_THE_ACTIVE = 1
"""With this fail_over_mac a bond has the MAC address of its active port. The kernel ignores any
other silently (K: drivers/net/bonding/bond_main.c, bond_set_mac_address (6.12)). NetworkManager
then gives up on the bond."""
_BEFORE_OTHERS = ("autoconnect-priority", "100")
"""Precedence over a profile of the NIC that may match too."""


def files(pairs: tuple[StaticPair, ...]) -> Iterator[File]:
    """Yield the profiles of all pairs."""
    for pair in pairs:
        yield _file(pair.bond, _bond(pair))
        yield _file(f"{pair.bond}-standby", _port(pair, "standby", STANDBY_DRIVER))
        yield _file(f"{pair.bond}-vf", _port(pair, "vf", f"!{STANDBY_DRIVER}", priority=100))
        for vlan in pair.vlans:
            head: Section = (
                "connection",
                (("id", vlan.name), ("type", "vlan"), ("interface-name", vlan.name)),
            )
            tag: Section = ("vlan", (("id", str(vlan.tag)), ("parent", pair.bond)))
            ethernet: Section = ("ethernet", (("mtu", str(vlan.mtu)),))
            yield _file(vlan.name, (head, tag, ethernet, *_addresses(vlan.settings)))


def _bond(pair: StaticPair) -> tuple[Section, ...]:
    options = [
        ("mode", "active-backup"),
        ("miimon", str(pair.options.miimon_ms)),
        ("fail_over_mac", FAIL_OVER_MAC[pair.options.fail_over_mac]),
        ("num_grat_arp", str(pair.options.announcements)),
        *([("primary", pair.vf_name)] if pair.vf_name is not None else []),
    ]
    head = (("id", pair.bond), ("type", "bond"), ("interface-name", pair.bond), _BEFORE_OTHERS)
    ethernet: tuple[tuple[str, str], ...] = (("mtu", str(pair.mtu)),)
    if pair.options.fail_over_mac != _FOLLOWS_THE_ACTIVE:
        ethernet = (("cloned-mac-address", pair.mac), *ethernet)
    return (
        ("connection", head),
        ("ethernet", ethernet),
        ("bond", tuple(options)),
        *_addresses(pair.settings),
    )


def _port(
    pair: StaticPair, side: str, driver: str, *, priority: int | None = None
) -> tuple[Section, ...]:
    head = (
        ("id", f"{pair.bond}-{side}"),
        ("type", "ethernet"),
        ("controller", pair.bond),
        ("port-type", "bond"),
        _BEFORE_OTHERS,
    )
    prio: tuple[Section, ...] = ()
    if priority is not None:
        prio = (("bond-port", (("prio", str(priority)),)),)
    return (
        ("connection", head),
        ("match", (("driver", f"{driver};"),)),
        ("ethernet", (("mac-address", pair.mac),)),
        *prio,
    )


def _addresses(settings: Settings) -> tuple[Section, ...]:
    return (
        _family(settings, AF_INET, auto=settings.dhcp4, without="disabled"),
        _family(
            settings,
            AF_INET6,
            auto=settings.accept_ra or settings.dhcp6,
            without="link-local",
        ),
    )


def _family(settings: Settings, family: int, *, auto: bool, without: str) -> Section:
    own = [item for item in settings.addresses if item.family == family]
    routes = [item for item in settings.routes if item.family == family]
    dns = [server for server in settings.dns if (":" in server) == (family == AF_INET6)]
    method = "auto" if auto else "manual" if own else without
    return (
        f"ipv{6 if family == AF_INET6 else 4}",
        (
            ("method", method),
            *((f"address{number}", _address(item)) for number, item in enumerate(own, 1)),
            *(pair for number, item in enumerate(routes, 1) for pair in _route(number, item)),
            *([("dns", "".join(f"{server};" for server in dns))] if dns else []),
            *(
                [("dns-search", "".join(f"{name};" for name in settings.domains))]
                if settings.domains and (own or auto)
                else []
            ),
        ),
    )


def _address(address: Address) -> str:
    return f"{address.address}/{address.prefix_length}"


def _route(number: int, route: Route) -> Iterator[tuple[str, str]]:
    words = [destination_or_any(route)]
    if route.gateway is not None or metric(route) is not None:
        unset = "::" if route.family == AF_INET6 else "0.0.0.0"  # noqa: S104 - no address
        words.append(route.gateway or unset)
    if metric(route) is not None:
        words.append(str(metric(route)))
    yield f"route{number}", ",".join(words)
    options = {
        "onlink": "true" if route.flags & ONLINK else None,
        "src": route.source,
        "mtu": route.mtu,
        "table": route.table if route.table != MAIN_TABLE else None,
    }
    chosen = [f"{key}={value}" for key, value in options.items() if value is not None]
    if chosen:
        yield f"route{number}_options", ",".join(chosen)


def _file(name: str, sections: tuple[Section, ...]) -> File:
    return File(name=f"{name}.nmconnection", content=write(sections), private=True)
