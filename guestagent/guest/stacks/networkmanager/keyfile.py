"""NetworkManager's profiles: which one a NIC has, and what the bond gets of it. Pure.

nm-settings-keyfile(5), nm-settings(5). A NIC for which the user wrote none has
NetworkManager's own: addresses by DHCP and from routers.
"""

from __future__ import annotations

import fnmatch
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guestagent.guest.core.model import Link
from guestagent.guest.stacks.iaid import iaid
from guestagent.guest.stacks.ini import Sections, parse, value_of, write

_KEPT = {"ipv4", "ipv6", "proxy", "hostname", "user"}
_KEPT_CONNECTION = {
    *("zone", "metered", "mdns", "llmnr", "dns-over-tls", "mptcp-flags", "permissions"),
    *("stable-id", "secondaries"),
}
_KEPT_ETHERNET = {"mtu"}
_ETHERNET_METRIC = "100"
"""A bond's is 300 (NetworkManager: src/core/devices/nm-device.c,
nm_device_get_route_metric_default (1.52))."""
_FOR_NIC = "# NIC: "
_OF_THE_AGENT = {"all_slaves_active", "primary", "active_slave"}
_BY_STABLE_PRIVACY = {"stable-privacy", "1", "default", "3"}

Settings = Mapping[str, Mapping[str, Any]]
"""A profile as D-Bus has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A profile with what decides whether a NIC gets it."""

    path: Path
    sections: Sections
    last_used: int = 0

    @classmethod
    def read(cls, path: Path, text: str, used: Mapping[str, str]) -> Profile:
        """Return the profile of a file; ``used`` has the time of last use by UUID."""
        sections = parse(text)
        last = used.get(value_of(sections, "connection", "uuid") or "", "0")
        return cls(path=path, sections=sections, last_used=int(last) if last.isdigit() else 0)

    def get(self, section: str, key: str) -> str | None:
        """Return a value."""
        return value_of(self.sections, section, key)

    @property
    def made_up(self) -> bool:
        """Whether NetworkManager has made it itself, for a NIC or a bond without one."""
        return self.get(".nmmeta", "nm-generated") == "true"

    @property
    def external(self) -> bool:
        """Whether it has made it up for a device that somebody else has configured."""
        return self.get(".nmmeta", "external") == "true"

    @property
    def rewritten(self) -> bool:
        """Whether the agent has put its own in the place of such a one."""
        return (self.get("connection", "id") or "").startswith("guestagent-")

    @property
    def kind(self) -> str | None:
        """Its type; the keyfile's short form for Ethernet is one of the two that are read."""
        return self.get("connection", "type")

    @property
    def interface(self) -> str | None:
        """The name of the interface it is for, or None."""
        return self.get("connection", "interface-name")

    @property
    def priority(self) -> int:
        """Which profile comes first when several fit."""
        text = self.get("connection", "autoconnect-priority") or "0"
        return int(text) if text.lstrip("-").isdigit() else 0

    def fits(self, nic: Link) -> bool:
        """Whether it activates by itself on a NIC."""
        mac = self.get("ethernet", "mac-address") or self.get("802-3-ethernet", "mac-address")
        names = self.get("match", "interface-name")
        drivers = self.get("match", "driver")
        return (
            self.kind in {"ethernet", "802-3-ethernet"}
            and (self.get("connection", "autoconnect") or "true") != "false"
            and self.interface in {None, nic.name}
            and (mac is None or mac.lower() == nic.permanent_address)
            and (names is None or _any(names, nic.name))
            and (drivers is None or _any(drivers, nic.driver or ""))
        )

    @property
    def controller(self) -> str | None:
        """What it makes the NIC a port of: the name or the UUID; None for nothing."""
        return self.get("connection", "controller") or self.get("connection", "master")


def choose(profiles: tuple[Profile, ...], nic: Link) -> Profile | None:
    """Return the profile that NetworkManager activates on a NIC: by priority, then latest use."""
    fitting = [profile for profile in profiles if profile.fits(nic)]
    return max(fitting, key=lambda item: (item.priority, item.last_used), default=None)


def for_bond(
    source: Profile | None, *, bond: str, nic: str, identity: str, token: str | None
) -> str:
    """Return the text of the bond's profile.

    The IAID is that of the NIC's name, and routes rank as a NIC's. ``token`` is what
    the NIC's address ended in, where it depends on the name (stable privacy).
    """
    given = source.sections if source is not None else _BY_ITSELF
    connection = [
        *(("id", f"guestagent-{bond}"), ("uuid", identity), ("type", "bond")),
        ("interface-name", bond),
    ]
    ethernet: list[tuple[str, str]] = []
    rest: dict[str, list[tuple[str, str]]] = {"ipv4": [], "ipv6": []}
    for name, pairs in given:
        if name == "connection":
            connection += [pair for pair in pairs if pair[0] in _KEPT_CONNECTION]
        elif name in {"ethernet", "802-3-ethernet"}:
            ethernet += [pair for pair in pairs if pair[0] in _KEPT_ETHERNET]
        elif name in _KEPT:
            rest.setdefault(name, []).extend(pairs)
    number = str(iaid(nic.encode()))
    for family in ("ipv4", "ipv6"):
        for key, value in (("dhcp-iaid", number), ("route-metric", _ETHERNET_METRIC)):
            if all(other != key for other, _ in rest[family]):
                rest[family].append((key, value))
    if token is not None and dict(rest["ipv6"]).get("addr-gen-mode") in _BY_STABLE_PRIVACY:
        others = [pair for pair in rest["ipv6"] if pair[0] not in {"addr-gen-mode", "token"}]
        rest["ipv6"] = [*others, ("addr-gen-mode", "eui64"), ("token", token)]
    came = f"from {source.path}" if source is not None else "as for a NIC without a profile"
    header = (
        f"# Written by guestagent for {bond}, {came}; it goes with a reboot.\n{_FOR_NIC}{nic}\n"
    )
    return header + write(
        (
            ("connection", tuple(connection)),
            ("bond", (("mode", "active-backup"),)),
            *((("ethernet", tuple(ethernet)),) if ethernet else ()),
            *((name, tuple(pairs)) for name, pairs in rest.items()),
        )
    )


def for_nic(profile: str, nic: str) -> str:
    """Return the profile of a NIC that gets back what its bond has by ``profile``."""
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
            (name, tuple((key, own.get(key, value)) for key, value in pairs))
            if name == "connection"
            else (name, pairs)
            for name, pairs in sections
            if name != "bond"
        )
    )


def nic_of(profile: str) -> str | None:
    """Return the name of the NIC that a bond's profile was made for."""
    lines = [line for line in profile.splitlines() if line.startswith(_FOR_NIC)]
    return lines[0].removeprefix(_FOR_NIC) if lines else None


def inactive(profile: str) -> str:
    """Return a profile that is activated by hand only."""
    return profile.replace("[connection]\n", "[connection]\nautoconnect=false\n", 1)


def merged(made_up: str, profile: str) -> str:
    """Return a profile in the place of one that was made up for the running bond.

    The bond's own options stay as they were found, but for those that the agent
    changes, and so do those of Ethernet, which are none: a difference there cannot
    be reapplied. The MTU, the only one of these that the bond gets, it has already.
    """
    found = parse(made_up)
    own = {
        ("connection", "uuid"): value_of(found, "connection", "uuid") or "",
    }
    options = tuple(
        pair
        for name, pairs in found
        if name == "bond"
        for pair in pairs
        if pair[0] not in _OF_THE_AGENT
    )
    header = "".join(f"{line}\n" for line in profile.splitlines() if line.startswith("#"))
    return header + write(
        tuple(
            (
                name,
                options
                if name == "bond" and options
                else tuple((key, own.get((name, key), value)) for key, value in pairs),
            )
            for name, pairs in parse(profile)
            if name != "ethernet"
        )
    )


def reapplied(applied: Settings, wanted: Settings) -> Settings:
    """Return what a running device is given: its settings, with the addressing that is wanted."""
    connection = {
        key: value
        for key, value in wanted.get("connection", {}).items()
        if key in _KEPT_CONNECTION
    }
    return {
        **applied,
        **{name: value for name, value in wanted.items() if name in _KEPT},
        "connection": {**applied.get("connection", {}), **connection},
    }


_BY_ITSELF: Sections = (
    ("ipv4", (("method", "auto"),)),
    ("ipv6", (("method", "auto"), ("addr-gen-mode", "default"))),
)


def _any(value: str, subject: str) -> bool:
    """Hold a list of globs against a text (nm-settings(5), match)."""
    globs = [item.strip().lstrip("|&") for item in value.replace(";", " ").split()]
    wanted = [item for item in globs if not item.startswith("!")]
    refused = [item[1:] for item in globs if item.startswith("!")]
    return not any(fnmatch.fnmatchcase(subject, item) for item in refused) and (
        not wanted or any(fnmatch.fnmatchcase(subject, item) for item in wanted)
    )
