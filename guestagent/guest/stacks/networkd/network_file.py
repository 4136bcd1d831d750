"""The .network files of systemd-networkd: which link they match, and how they configure it. Pure.

Matching follows systemd.network(5), section [Match] (systemd: src/shared/net-condition.c,
net_match_config, config_parse_match_strv (245, 257)).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from guestagent.guest.core.link import Link
from guestagent.guest.stacks.ini import Sections, entries, fits, parse, value_of

_OFF = {"no", "false", "off", "0", "n", "f", "none"}
_CONDITIONS = {
    *("Host", "Virtualization", "KernelCommandLine", "KernelVersion", "Credential"),
    *("Architecture", "Firmware"),
}
# A bridge or a VRF takes the bond as it took the NIC. These two need the NIC itself.
_TAKES_THE_NIC = ("Bond", "BatmanAdvanced")


@dataclass(frozen=True, slots=True, kw_only=True)
class Matchable:
    """Properties of a link that [Match] sections are compared with."""

    name: str
    address: str
    type: str = "ether"
    kind: str = ""
    permanent_address: str = ""
    driver: str = ""
    properties: Callable[[], Mapping[str, str]] = dict
    """udev properties, read only if a file matches on them."""
    other_names: tuple[str, ...] = ()
    """Alternative names, which Name= matches too."""

    @classmethod
    def nic(cls, link: Link, properties: Callable[[], Mapping[str, str]]) -> Matchable:
        """Return a physical NIC as networkd sees it."""
        return cls(
            name=link.name,
            address=link.address,
            permanent_address=link.permanent_address or "",
            driver=link.driver or "",
            properties=properties,
            other_names=link.other_names,
        )

    @classmethod
    def bond(cls, name: str, mac: str) -> Matchable:
        """Return a bond as networkd sees it."""
        return cls(name=name, type="bond", kind="bond", address=mac, driver="bonding")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFile:
    """A .network file together with its drop-ins."""

    path: Path
    sections: Sections
    match: Mapping[str, tuple[str, ...]]
    """Words of each key of the [Match] sections."""

    @classmethod
    def parse(cls, path: Path, text: str) -> NetworkFile:
        """Return the file with this text."""
        sections = parse(text)
        return cls(path=path, sections=sections, match=_match_keys(sections))

    def matches(self, link: Matchable) -> bool:
        """Whether every key of the [Match] sections holds for the link.

        A file without [Match] matches nothing (networkd warns of it). A key that the agent
        cannot evaluate does not hold.
        """
        return bool(self.match) and _all_hold(self.match, link)

    def condition(self, link: Matchable) -> str | None:
        """Return the condition on the machine that alone decides whether the file matches.

        The agent does not evaluate such keys. A file with no other key in [Match] is for every
        link.
        """
        conditions = [key for key in self.match if key in _CONDITIONS]
        others = {key: words for key, words in self.match.items() if key not in _CONDITIONS}
        return conditions[0] if conditions and _all_hold(others, link) else None

    def is_of_mac(self, link: Matchable) -> bool:
        """Whether the file goes by the link's MAC address, and matches it apart from the name."""
        keys = {key: words for key, words in self.match.items() if key != "Name"}
        by_mac = not keys.keys().isdisjoint({"MACAddress", "PermanentMACAddress"})
        return by_mac and _all_hold(keys, link)

    def values(self, section: str, key: str) -> tuple[str, ...]:
        """Return the words of a list that several lines may set; an empty line clears it."""
        words: list[str] = []
        for found, value in entries(self.sections, section):
            if found == key:
                words = [*words, *value.split()] if value else []
        return tuple(words)

    @property
    def unmanaged(self) -> bool:
        """Whether networkd leaves the NIC alone."""
        return any(
            key == "Unmanaged" and value.lower() in {"yes", "1", "true"}
            for key, value in entries(self.sections, "Link")
        )

    @property
    def dynamic(self) -> bool:
        """Whether addresses may come from a DHCP server or a router."""
        dhcp = value_of(self.sections, "Network", "DHCP") or "no"
        accepts = value_of(self.sections, "Network", "IPv6AcceptRA") or "yes"
        return dhcp.lower() not in _OFF or accepts.lower() not in _OFF

    @property
    def stable_privacy(self) -> bool:
        """Whether some addresses depend on the name of the interface."""
        return any(
            is_stable_privacy(name, key, value)
            for name, pairs in self.sections
            for key, value in pairs
        )

    @property
    def movable(self) -> bool:
        """Whether another link can have the configuration of the NIC."""
        return not self.unmanaged and self.controller is None

    @property
    def controller(self) -> str | None:
        """Name of the device of which the NIC itself becomes a port, or None."""
        names = (value_of(self.sections, "Network", key) for key in _TAKES_THE_NIC)
        return next((name for name in names if name), None)


def is_stable_privacy(section: str, key: str, value: str) -> bool:
    """Whether a line asks for stable privacy: ``Token=``, named ``IPv6Token=`` before 250."""
    return value.startswith("prefixstable") and (section, key) in {
        ("IPv6AcceptRA", "Token"),
        ("Network", "IPv6Token"),
    }


def _match_keys(sections: Sections) -> dict[str, tuple[str, ...]]:
    """Return the words of each key in [Match]: lines of one key add up, an empty one clears it.

    An exclamation mark before a line stands before each of its words.
    """
    keys: dict[str, tuple[str, ...]] = {}
    for key, value in entries(sections, "Match"):
        mark = "!" if value.startswith("!") else ""
        words = tuple(f"{mark}{word}" for word in value.removeprefix("!").split())
        keys[key] = (*keys.get(key, ()), *words) if words else ()
    return {key: words for key, words in keys.items() if words}


def _all_hold(keys: Mapping[str, tuple[str, ...]], link: Matchable) -> bool:
    return all(_holds(key, words, link) for key, words in keys.items())


def _holds(key: str, words: tuple[str, ...], link: Matchable) -> bool:
    """Whether one key of [Match] holds; one that the agent cannot evaluate does not."""
    return key in _KEYS and _KEYS[key](words, link)


def _macs(words: tuple[str, ...]) -> set[str]:
    return {word.lower().replace("-", ":") for word in words}


def _has_property(item: str, properties: Mapping[str, str]) -> bool:
    inverted = item.startswith("!")
    key, _, glob = item.removeprefix("!").partition("=")
    value = properties.get(key)
    return (value is not None and fnmatch.fnmatchcase(value, glob)) != inverted


_KEYS: Mapping[str, Callable[[tuple[str, ...], Matchable], bool]] = {
    "Name": lambda words, link: any(fits(words, n) for n in (link.name, *link.other_names)),
    "MACAddress": lambda words, link: link.address in _macs(words),
    "PermanentMACAddress": lambda words, link: link.permanent_address in _macs(words),
    "Driver": lambda words, link: fits(words, link.driver),
    "Type": lambda words, link: fits(words, link.type),
    "Kind": lambda words, link: fits(words, link.kind),
    "Path": lambda words, link: fits(words, link.properties().get("ID_PATH", "")),
    "Property": lambda words, link: all(_has_property(w, link.properties()) for w in words),
}
"""Keys of [Match] that the agent evaluates."""
