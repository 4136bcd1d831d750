"""A pair in a file of netplan (netplan(5)). Pure.

netplan cannot match "any driver but this one", so that the driver of the VF must be known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from guestagent.errors import ConflictError
from guestagent.guest.core.addressing import Route
from guestagent.guest.core.link import STANDBY_DRIVER
from guestagent.guest.render.model import (
    AF_INET,
    FAIL_OVER_MAC,
    MAIN_TABLE,
    ONLINK,
    File,
    Settings,
    StaticPair,
    destination_or_any,
    metric,
)

DIRECTORY = "/etc/netplan"
Yaml: TypeAlias = "str | int | bool | list[Yaml] | dict[str, Yaml]"


def files(pairs: tuple[StaticPair, ...], *, renderer: str) -> Iterator[File]:
    """Yield one file with all pairs. Raises ConflictError for a pair whose VF is away."""
    ethernets: dict[str, Yaml] = {}
    bonds: dict[str, Yaml] = {}
    vlans: dict[str, Yaml] = {}
    for pair in pairs:
        if pair.vf_driver is None:
            raise ConflictError(
                f"the VF of {pair.bond} ({pair.mac}) is away, and netplan needs its driver's name",
                hint="render it while the VF is plugged in, or render networkd",
            )
        standby, vf = f"{pair.bond}-standby", f"{pair.bond}-vf"
        ethernets[standby] = _port(pair.mac, STANDBY_DRIVER)
        ethernets[vf] = {**_port(pair.mac, pair.vf_driver), "optional": True}
        bonds[pair.bond] = {
            "interfaces": [standby, vf],
            "macaddress": pair.mac,
            "mtu": pair.mtu,
            "parameters": {
                "mode": "active-backup",
                "mii-monitor-interval": pair.options.miimon_ms,
                "primary": vf,
                "primary-reselect-policy": "always",
                "fail-over-mac-policy": FAIL_OVER_MAC[pair.options.fail_over_mac],
                "gratuitous-arp": pair.options.announcements,
            },
            **_settings(pair.settings),
        }
        for vlan in pair.vlans:
            link: dict[str, Yaml] = {"id": vlan.tag, "link": pair.bond, "mtu": vlan.mtu}
            vlans[vlan.name] = {**link, **_settings(vlan.settings)}
    network: dict[str, Yaml] = {"version": 2, "renderer": renderer, "ethernets": ethernets}
    network["bonds"] = bonds
    if vlans:
        network["vlans"] = vlans
    content = "\n".join(_lines({"network": network}, 0)) + "\n"
    yield File(name="05-guestagent-pairs.yaml", content=content, private=True)


def _port(mac: str, driver: str) -> dict[str, Yaml]:
    off: dict[str, Yaml] = {"dhcp4": False, "dhcp6": False, "accept-ra": False, "link-local": []}
    return {"match": {"macaddress": mac, "driver": driver}, **off}


def _settings(settings: Settings) -> dict[str, Yaml]:
    form: dict[str, Yaml] = {
        "dhcp4": settings.dhcp4,
        "dhcp6": settings.dhcp6,
        "accept-ra": settings.accept_ra,
    }
    if settings.addresses:
        form["addresses"] = [f"{a.address}/{a.prefix_length}" for a in settings.addresses]
    if settings.routes:
        form["routes"] = [_route(route) for route in settings.routes]
    if settings.dns or settings.domains:
        form["nameservers"] = {
            "addresses": list(settings.dns),
            "search": list(settings.domains),
        }
    return form


def _route(route: Route) -> Yaml:
    keys: tuple[tuple[str, Yaml | None], ...] = (
        ("to", destination_or_any(route)),
        ("via", route.gateway),
        ("on-link", True if route.flags & ONLINK else None),
        ("from", route.source),
        ("metric", metric(route)),
        ("mtu", route.mtu),
        ("table", route.table if route.table != MAIN_TABLE else None),
        ("scope", "link" if route.gateway is None and route.family == AF_INET else None),
    )
    return {key: value for key, value in keys if value is not None}


def _lines(value: dict[str, Yaml], depth: int) -> Iterator[str]:
    indent = "  " * depth
    for key, item in value.items():
        if isinstance(item, dict):
            yield f"{indent}{key}:"
            yield from _lines(item, depth + 1)
        elif isinstance(item, list) and any(isinstance(entry, dict) for entry in item):
            yield f"{indent}{key}:"
            for entry in item:
                first, *rest = _lines(entry if isinstance(entry, dict) else {}, depth + 2)
                yield f"{indent}  - {first.lstrip()}"
                yield from rest
        else:
            yield f"{indent}{key}: {_scalar(item)}"


def _scalar(value: Yaml) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(_scalar(item) for item in value)}]"
    return str(value) if isinstance(value, int) else f'"{value}"'
