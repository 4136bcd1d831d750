"""A pair in files of systemd-networkd (systemd.netdev(5), systemd.network(5)). Pure.

The .netdev file sets the MAC address of the bond, because udev would give it another one. The VF
is matched as any driver but virtio_net, so that another host may have another kind of VF.
"""

from __future__ import annotations

from collections.abc import Iterator

from guestagent.guest.core.addressing import Route
from guestagent.guest.core.link import STANDBY_DRIVER
from guestagent.guest.render.model import (
    FAIL_OVER_MAC,
    MAIN_TABLE,
    ONLINK,
    File,
    Settings,
    StaticPair,
    Vlan,
    destination,
    metric,
)
from guestagent.guest.stacks.ini import Section, write

DIRECTORY = "/etc/systemd/network"
_PREFIX = "05-"
"""Sorts before the files of the NIC, which may match a port or the bond by MAC address."""
_Pairs = tuple[tuple[str, str], ...]


def files(pairs: tuple[StaticPair, ...]) -> Iterator[File]:
    """Yield the files of all pairs."""
    for pair in pairs:
        name = f"{_PREFIX}{pair.bond}"
        yield _file(f"{name}.netdev", _bond(pair))
        yield _file(f"{name}-standby.network", _port(pair, STANDBY_DRIVER))
        yield _file(f"{name}-vf.network", _port(pair, f"!{STANDBY_DRIVER}", primary=True))
        yield _file(f"{name}.network", _configuration(pair))
        if pair.networkd is None:
            for vlan in pair.vlans:
                yield _file(f"{_PREFIX}{vlan.name}.netdev", _vlan(vlan))
                match: Section = ("Match", (("Name", vlan.name), ("Type", "vlan")))
                yield _file(f"{_PREFIX}{vlan.name}.network", (match, *_sections(vlan.settings)))


def _bond(pair: StaticPair) -> tuple[Section, ...]:
    device = (("Name", pair.bond), ("Kind", "bond"), ("MACAddress", pair.mac))
    return (
        ("NetDev", (*device, ("MTUBytes", str(pair.mtu)))),
        (
            "Bond",
            (
                ("Mode", "active-backup"),
                ("MIIMonitorSec", f"{pair.options.miimon_ms}ms"),
                ("PrimaryReselectPolicy", "always"),
                ("FailOverMACPolicy", FAIL_OVER_MAC[pair.options.fail_over_mac]),
                ("GratuitousARP", str(pair.options.announcements)),
            ),
        ),
    )


def _port(pair: StaticPair, driver: str, *, primary: bool = False) -> tuple[Section, ...]:
    network: _Pairs = (("Bond", pair.bond),)
    if primary:
        network += (("PrimarySlave", "yes"),)
    return (
        ("Match", (("PermanentMACAddress", pair.mac), ("Driver", driver))),
        ("Network", (*network, ("LinkLocalAddressing", "no"), ("IPv6AcceptRA", "no"))),
    )


def _configuration(pair: StaticPair) -> tuple[Section, ...]:
    match: Section = ("Match", (("Name", pair.bond), ("Kind", "bond")))
    if pair.networkd is not None:
        return (match, *(section for section in pair.networkd if section[0] != "Match"))
    return (match, *_sections(pair.settings, tuple(("VLAN", vlan.name) for vlan in pair.vlans)))


def _vlan(vlan: Vlan) -> tuple[Section, ...]:
    device = (("Name", vlan.name), ("Kind", "vlan"), ("MTUBytes", str(vlan.mtu)))
    return (("NetDev", device), ("VLAN", (("Id", str(vlan.tag)),)))


def _sections(settings: Settings, more: _Pairs = ()) -> tuple[Section, ...]:
    wanted = {(True, True): "yes", (True, False): "ipv4", (False, True): "ipv6"}
    network = [
        ("DHCP", wanted.get((settings.dhcp4, settings.dhcp6), "no")),
        ("IPv6AcceptRA", "yes" if settings.accept_ra else "no"),
        *(("Address", f"{item.address}/{item.prefix_length}") for item in settings.addresses),
        *(("DNS", server) for server in settings.dns),
        *([("Domains", " ".join(settings.domains))] if settings.domains else []),
        *more,
    ]
    return (("Network", tuple(network)), *(_route(route) for route in settings.routes))


def _route(route: Route) -> Section:
    keys = (
        ("Destination", destination(route)),
        ("Gateway", route.gateway),
        ("GatewayOnLink", "yes" if route.flags & ONLINK else None),
        ("PreferredSource", route.source),
        ("Metric", metric(route)),
        ("MTUBytes", route.mtu),
        ("Table", route.table if route.table != MAIN_TABLE else None),
    )
    return ("Route", tuple((key, str(value)) for key, value in keys if value is not None))


def _file(name: str, sections: tuple[Section, ...]) -> File:
    return File(name=name, content=write(sections))
