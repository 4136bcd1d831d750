"""The .network files of systemd-networkd: what they say, and which link they match.

Matching follows systemd.network(5), section [Match].
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from guestagent.guest.model import Link
from guestagent.guest.stacks.sections import Sections, value_of

_OFF = {"no", "false", "off", "0", "n", "f", "none"}
# A bridge or VRF takes the bond as it took the NIC; these want the NIC itself.
_TAKES_THE_NIC = ("Bond", "BatmanAdvanced")


@dataclass(frozen=True, slots=True, kw_only=True)
class Matchable:
    """What [Match] sections are held against."""

    name: str
    type: str
    kind: str
    address: str
    permanent_address: str
    driver: str
    properties: Callable[[], Mapping[str, str]]
    """udev's, asked for only when a file matches on them."""

    @classmethod
    def nic(cls, link: Link, properties: Callable[[], Mapping[str, str]]) -> Matchable:
        """Return a physical NIC as networkd sees it."""
        return cls(
            name=link.name,
            type="ether",
            kind="",
            address=link.address,
            permanent_address=link.permanent_address or "",
            driver=link.driver or "",
            properties=properties,
        )

    @classmethod
    def bond(cls, name: str, mac: str) -> Matchable:
        """Return a bond as networkd sees it."""
        return cls(
            name=name,
            type="bond",
            kind="bond",
            address=mac,
            permanent_address="",
            driver="bonding",
            properties=dict,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFile:
    """A .network file with its drop-ins, as sections of key and value in order."""

    path: Path
    sections: Sections

    def matches(self, link: Matchable) -> bool:
        """Whether every key of the [Match] sections holds for the link.

        A file without [Match] matches nothing here (networkd warns of it), and
        a key that cannot be judged here counts as no match.
        """
        keys = self._keys
        return bool(keys) and all(_holds(key, value, link) for key, value in keys)

    def is_of_mac(self, link: Matchable) -> bool:
        """Whether it is of the link's MAC address, and matches it but for the name."""
        keys = [(key, value) for key, value in self._keys if key != "Name"]
        by_mac = any(key in {"MACAddress", "PermanentMACAddress"} for key, _ in keys)
        return by_mac and all(_holds(key, value, link) for key, value in keys)

    @property
    def _keys(self) -> list[tuple[str, str]]:
        return [pair for name, pairs in self.sections if name == "Match" for pair in pairs]

    def values(self, section: str, key: str) -> tuple[str, ...]:
        """Return the words of a list that may be set in several lines; an empty line clears it."""
        words: list[str] = []
        for name, pairs in self.sections:
            for found, value in pairs:
                if (name, found) == (section, key):
                    words = [*words, *value.split()] if value else []
        return tuple(words)

    @property
    def unmanaged(self) -> bool:
        """Whether it makes networkd leave the NIC alone."""
        return any(
            name == "Link" and key == "Unmanaged" and value.lower() in {"yes", "1", "true"}
            for name, pairs in self.sections
            for key, value in pairs
        )

    @property
    def dynamic(self) -> bool:
        """Whether addresses come from a DHCP server or a router."""
        dhcp = value_of(self.sections, "Network", "DHCP") or "no"
        accepts = value_of(self.sections, "Network", "IPv6AcceptRA") or "yes"
        return dhcp.lower() not in _OFF or accepts.lower() not in _OFF

    @property
    def stable_privacy(self) -> bool:
        """Whether it makes addresses that depend on the name of the interface."""
        return any(
            is_stable_privacy(name, key, value)
            for name, pairs in self.sections
            for key, value in pairs
        )

    @property
    def movable(self) -> bool:
        """Whether another link can have what it gives the NIC."""
        return not self.unmanaged and self.controller is None

    @property
    def controller(self) -> str | None:
        """What it makes the NIC itself a port of, or None."""
        given = (value_of(self.sections, "Network", key) for key in _TAKES_THE_NIC)
        return next((name for name in given if name), None)


def is_stable_privacy(section: str, key: str, value: str) -> bool:
    """Whether a line asks for that: ``Token=``, or ``IPv6Token=`` as it was called before 250."""
    return value.startswith("prefixstable") and (section, key) in {
        ("IPv6AcceptRA", "Token"),
        ("Network", "IPv6Token"),
    }


def _holds(key: str, value: str, link: Matchable) -> bool:
    match key:
        case "Name":
            return _any_glob(value, link.name)
        case "MACAddress":
            return link.address in value.lower().replace("-", ":").split()
        case "PermanentMACAddress":
            return link.permanent_address in value.lower().replace("-", ":").split()
        case "Driver":
            return _any_glob(value, link.driver)
        case "Type":
            return _any_glob(value, link.type)
        case "Kind":
            return _any_glob(value, link.kind)
        case "Path":
            return _any_glob(value, link.properties().get("ID_PATH", ""))
        case "Property":
            return all(_has_property(item, link.properties()) for item in value.split())
    return False


def _any_glob(value: str, subject: str) -> bool:
    """Hold a whitespace-separated list of globs against a text; a leading ! inverts the list."""
    inverted = value.startswith("!")
    globs = value.removeprefix("!").split()
    hit = bool(subject) and any(fnmatch.fnmatchcase(subject, glob) for glob in globs)
    return hit != inverted


def _has_property(item: str, properties: Mapping[str, str]) -> bool:
    inverted = item.startswith("!")
    key, _, value = item.removeprefix("!").partition("=")
    return (properties.get(key) == value) != inverted
