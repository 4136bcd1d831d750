"""ifupdown: the bond is configured by the stanza of the NIC.

``ifup bond0=ens3`` configures ``bond0`` as the file says of ``ens3``
(ifup(8), PHYSICAL=LOGICAL), so no file has to be written. Who does it is
``/usr/lib/guestagent/ifupdown``, which is in the packages beside a drop-in of
networking.service: at boot, after what is in the file, it brings up the bonds
that the early unit has made, and leaves out their ports. When a bond takes
over a NIC in use, its addresses are on the bond already: then only the DHCP
client, which stays on the interface it was started on, is exchanged for one on
the bond, and ifupdown's own notes are put right.

The agent asks systemd for that, because what is started must not be a child
of the agent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from guestagent.guest.stacks.tool import ask, standby_of, text_of

_MAX_DEPTH = 5
_UNIT_TIMEOUT_S = 60.0
_HINT = "look at `journalctl -u 'guestagent-ifupdown@*'` and `ifquery --state`"


_PORTS = {"bridge-ports", "bond-slaves", "slaves"}
"""bridge-utils-interfaces(5), ifenslave's README; either dash or underscore."""

_NO_IPV6 = {"ipv4only", "noipv6", "noipv6rs"}


class Ifupdown:
    """The interfaces file of one system; ``root`` is where its files are."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._file = root / "etc/network/interfaces"
        self._state = root / "run/network/ifstate"

    def configures(self, nic: str) -> bool:
        """Whether there is a stanza for a NIC."""
        if not (self._root / "usr/sbin/ifup").exists():
            return False
        return any(words[:2] == ["iface", nic] for words in self._lines(self._file))

    def autoconfigures(self, nic: str) -> bool:
        """Whether the DHCP client of a stanza makes the IPv6 addresses, beside the kernel's.

        dhcpcd takes them from routers itself, unless its file says not to (dhcpcd.conf(5)).
        Where dhclient is installed as well, it is not known which of the two is started.
        """
        programs = self._root / "usr/sbin"
        if not (programs / "dhcpcd").exists() or (programs / "dhclient").exists():
            return False
        options = {words[0] for words in self._lines(self._root / "etc/dhcpcd.conf")}
        stanzas = [words for words in self._lines(self._file) if words[:2] == ["iface", nic]]
        return any(words[-1] == "dhcp" for words in stanzas) and options.isdisjoint(_NO_IPV6)

    def claim(self, nic: str) -> str | None:
        """Return what a stanza makes of a NIC that a port of a bond cannot be, or None."""
        if not (self._root / "usr/sbin/ifup").exists():
            return None
        stanza = ""
        for words in self._lines(self._file):
            key = words[0].replace("_", "-")
            if key == "iface" and len(words) > 1:
                stanza = words[1]
                if stanza.partition(".")[0] == nic != stanza:
                    return f"has the VLAN {stanza} in {self._file}"
            elif key in _PORTS and _names(words[1:], nic):
                return f"is a port of {stanza} in {self._file}"
            elif key == "bond-master" and stanza == nic:
                return f"is a port of {' '.join(words[1:])} in {self._file}"
            elif key == "vlan-raw-device" and nic in words[1:]:
                return f"has the VLAN {stanza} in {self._file}"
        return None

    def reload(self, bond: str) -> None:
        """Have the bond configured as its standby was, if ifupdown did that. Raises PeerError."""
        standby = standby_of(bond, self._root)
        if standby is not None and standby in self._up():
            self._systemd("adopt", bond)

    def remove(self, bond: str) -> None:
        """Have the NIC configured as the bond was. Raises PeerError."""
        if bond in self._up():
            self._systemd("release", bond)

    def _systemd(self, verb: str, bond: str) -> None:
        unit = f"guestagent-ifupdown@{verb}-{bond}.service"
        ask("systemctl", "start", unit, hint=_HINT, timeout_s=_UNIT_TIMEOUT_S)

    def _up(self) -> frozenset[str]:
        """Return the interfaces that ifupdown has configured."""
        try:
            lines = text_of(self._state).splitlines()
        except OSError:
            return frozenset()
        return frozenset(line.partition("=")[0] for line in lines)

    def _lines(self, file: Path, depth: int = 0) -> Iterator[list[str]]:
        """Return the words of each line, of the files it names too (interfaces(5))."""
        try:
            text = text_of(file)
        except OSError:
            return
        for line in text.replace("\\\n", " ").splitlines():
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            yield words
            if words[0] in {"source", "source-directory"} and depth < _MAX_DEPTH:
                for pattern in words[1:]:
                    for found in self._sourced(pattern, whole=words[0] == "source-directory"):
                        yield from self._lines(found, depth + 1)

    def _sourced(self, pattern: str, *, whole: bool) -> list[Path]:
        base = self._root if pattern.startswith("/") else self._file.parent
        found = sorted(base.glob(pattern.lstrip("/")))
        if not whole:
            return found
        return [item for place in found if place.is_dir() for item in sorted(place.iterdir())]


def _names(ports: list[str], nic: str) -> bool:
    """Whether a list of ports names a NIC (bridge-utils-interfaces(5), bridge_ports).

    ``all`` stands for every NIC, ``regex`` makes what follows it patterns.
    """
    if ports[:1] == ["all"]:
        return True
    if "regex" not in ports:
        return nic in ports
    at = ports.index("regex")
    return nic in ports[:at] or any(_fits(pattern, nic) for pattern in ports[at + 1 :])


def _fits(pattern: str, nic: str) -> bool:
    try:
        return re.fullmatch(pattern, nic) is not None
    except re.error:
        return False
