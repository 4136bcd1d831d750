"""Profiles that the agent writes: for a bond, and for the NIC that gets its addresses back. Pure.

``for_bond`` is derived from the profile of the NIC; NetworkManager reads it when it starts. While
it runs, it loads ``inactive``, gets ``applied_settings`` for the device that it found, and reads
``merged`` after a restart, in place of the profile that it generated for this device.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from guestagent.guest.stacks.base import Nic
from guestagent.guest.stacks.dhcp_iaid import iaid
from guestagent.guest.stacks.ini import Section, Sections, entries, parse, value_of, write
from guestagent.guest.stacks.networkmanager.keyfile import ETHERNET, Profile

NAMESPACE = uuid.UUID("5d3e6a52-40d8-4a8f-9a5e-6f0f4f2b7a11")
_ADDRESSING = {"ipv4", "ipv6", "proxy", "hostname", "user"}
"""Sections that the bond gets from the NIC."""
_CONNECTION_KEYS = {
    *("zone", "metered", "mdns", "llmnr", "dns-over-tls", "mptcp-flags", "permissions"),
    *("stable-id", "secondaries"),
}
_ETHERNET_KEYS = {"mtu"}
_ETHERNET_METRIC = "100"
"""A bond's is 300 (NetworkManager: src/core/devices/nm-device.c,
nm_device_get_route_metric_default (1.52))."""
_FOR_NIC = "# NIC: "
_OPTIONS_OF_THE_AGENT = {"all_slaves_active", "primary", "active_slave"}
_STABLE_PRIVACY = {"stable-privacy", "1", "default", "3"}
_WITHOUT_PROFILE: Sections = (
    ("ipv4", (("method", "auto"),)),
    ("ipv6", (("method", "auto"), ("addr-gen-mode", "default"))),
)
"""NetworkManager's own profile for a NIC for which the user has written none."""

Settings = Mapping[str, Mapping[str, Any]]
"""A profile in the form of D-Bus."""
_Pairs = tuple[tuple[str, str], ...]


def for_bond(source: Profile | None, nic: Nic, interface_id: str | None) -> str:
    """Return the profile of the bond, with the settings of ``source``.

    The IAID is that of the NIC's name, and routes have a NIC's metric. ``interface_id`` replaces
    addresses by stable privacy, which depend on the name.
    """
    sections = source.sections if source is not None else _WITHOUT_PROFILE
    bond, name = nic.bond, nic.link.name
    identity = str(uuid.uuid5(NAMESPACE, f"{nic.mac} {bond}"))
    connection = (
        *(("id", f"guestagent-{bond}"), ("uuid", identity)),
        *(("type", "bond"), ("interface-name", bond)),
        *_pairs(sections, ("connection",), _CONNECTION_KEYS),
    )
    ethernet = _pairs(sections, ETHERNET, _ETHERNET_KEYS)
    origin = f"from {source.path}" if source is not None else "as for a NIC without a profile"
    header = f"# Written by guestagent for {bond}, {origin}; it goes with a reboot.\n"
    content: Sections = (
        ("connection", connection),
        ("bond", (("mode", "active-backup"),)),
        *((("ethernet", ethernet),) if ethernet else ()),
        *_addressing(sections, name, interface_id),
    )
    return f"{header}{_FOR_NIC}{name}\n{write(content)}"


def for_nic(profile: str, nic: str) -> str:
    """Return the profile of a NIC that gets back the addresses of the bond with ``profile``."""
    sections = parse(profile)
    identity = value_of(sections, "connection", "uuid") or ""
    own = {
        "id": f"guestagent-{nic}",
        "uuid": str(uuid.uuid5(uuid.UUID(identity), nic)),
        "type": "ethernet",
        "interface-name": nic,
    }
    header = f"# Written by guestagent for {nic}, which had it as a bond; it goes with a reboot.\n"
    return header + write(
        tuple(
            (name, _replaced(pairs, own if name == "connection" else {}))
            for name, pairs in sections
            if name != "bond"
        )
    )


def nic_of(profile: str) -> str | None:
    """Return the name of the NIC for which a bond's profile was made."""
    lines = [line for line in profile.splitlines() if line.startswith(_FOR_NIC)]
    return lines[0].removeprefix(_FOR_NIC) if lines else None


def inactive(profile: str) -> str:
    """Return a profile that NetworkManager activates on request only."""
    return profile.replace("[connection]\n", "[connection]\nautoconnect=false\n", 1)


def applied_settings(applied: Settings, wanted: Settings) -> Settings:
    """Return the settings of a running device with the addressing of another profile."""
    connection = {
        key: value
        for key, value in wanted.get("connection", {}).items()
        if key in _CONNECTION_KEYS
    }
    return {
        **applied,
        **{name: value for name, value in wanted.items() if name in _ADDRESSING},
        "connection": {**applied.get("connection", {}), **connection},
    }


def merged(generated: str, profile: str) -> str:
    """Return the profile that replaces the one generated for the running device.

    The options of the bond stay as NetworkManager found them, apart from those that the agent
    changes. There are no Ethernet settings, as in the generated profile: a difference there
    cannot be reapplied. The bond has the MTU, the only such setting, already.
    """
    found = parse(generated)
    identity = {"uuid": value_of(found, "connection", "uuid") or ""}
    options = tuple(
        pair for pair in entries(found, "bond") if pair[0] not in _OPTIONS_OF_THE_AGENT
    )
    sections: list[Section] = []
    for name, pairs in parse(profile):
        if name == "bond":
            sections.append((name, options or pairs))
        elif name == "connection":
            sections.append((name, _replaced(pairs, identity)))
        elif name != "ethernet":
            sections.append((name, pairs))
    header = "".join(f"{line}\n" for line in profile.splitlines() if line.startswith("#"))
    return header + write(tuple(sections))


def _addressing(sections: Sections, nic: str, interface_id: str | None) -> Sections:
    """Return the addressing of the bond, with the defaults of the NIC instead of a bond's."""
    found: dict[str, _Pairs] = {"ipv4": (), "ipv6": ()}
    for name, pairs in sections:
        if name in _ADDRESSING:
            found[name] = (*found.get(name, ()), *pairs)
    for family in ("ipv4", "ipv6"):
        defaults = (("dhcp-iaid", str(iaid(nic.encode()))), ("route-metric", _ETHERNET_METRIC))
        chosen = dict(found[family])
        found[family] += tuple(pair for pair in defaults if pair[0] not in chosen)
    if interface_id is not None and dict(found["ipv6"]).get("addr-gen-mode") in _STABLE_PRIVACY:
        others = (pair for pair in found["ipv6"] if pair[0] not in {"addr-gen-mode", "token"})
        found["ipv6"] = (*others, ("addr-gen-mode", "eui64"), ("token", interface_id))
    return tuple(found.items())


def _pairs(sections: Sections, names: tuple[str, ...], keys: set[str]) -> _Pairs:
    """Return the settings with one of these keys from the sections of these names."""
    pairs = (pair for name in names for pair in entries(sections, name))
    return tuple(pair for pair in pairs if pair[0] in keys)


def _replaced(pairs: _Pairs, values: Mapping[str, str]) -> _Pairs:
    return tuple((key, values.get(key, value)) for key, value in pairs)
