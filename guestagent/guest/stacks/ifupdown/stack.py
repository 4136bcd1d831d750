"""ifupdown: the stanza of the NIC configures the bond.

``ifup bond0=ens3`` configures ``bond0`` by the stanza of ``ens3`` (ifup(8), PHYSICAL=LOGICAL), so
that no file is written. The work is done by ``/usr/lib/guestagent/ifupdown``, which the packages
install together with a drop-in of networking.service. At boot it brings up the bonds of the early
unit after the other interfaces of the file, and leaves out their ports. When a bond takes over a
NIC in use, its addresses are on the bond already. Only the DHCP client, which stays on the
interface on which it was started, is replaced by one on the bond, and ifupdown's state file is
corrected.

The agent starts a unit of systemd for this: the DHCP client must not be a child of the agent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from guestagent.guest.core.link import Autoconfiguration
from guestagent.guest.stacks.base import NetworkStack, Nic, Ownership, Strength
from guestagent.guest.stacks.commands import run_command
from guestagent.guest.stacks.files import read_user_file, standby_of

_MAX_DEPTH = 5
_UNIT_TIMEOUT_S = 60.0
_HINT = "look at `journalctl -u 'guestagent-ifupdown@*'` and `ifquery --state`"
_PORTS = {"bridge-ports", "bond-slaves", "slaves"}
"""bridge-utils-interfaces(5), ifenslave's README; either dash or underscore."""
_NO_IPV6 = {"ipv4only", "noipv6", "noipv6rs"}


class Ifupdown(NetworkStack):
    """The interfaces file of the system below ``root``."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.directories = ()
        self._programs = root / "usr/sbin"
        self._root = root
        self._file = root / "etc/network/interfaces"
        self._state = root / "run/network/ifstate"

    def ownership(self, nic: Nic) -> Ownership:
        """Own the NICs that have a stanza."""
        configured = self._is_installed() and any(self._stanzas(nic.link.name))
        return Ownership(Strength.CONFIGURED if configured else Strength.NO)

    def autoconfiguration(self, nic: Nic) -> Autoconfiguration:
        """Tell whether dhcpcd makes the IPv6 addresses: it hears routers itself (dhcpcd.conf(5)).

        If dhclient is installed too, it is unknown which of the two ifupdown starts.
        """
        if not (self._programs / "dhcpcd").exists() or (self._programs / "dhclient").exists():
            return Autoconfiguration.KERNEL
        options = {words[0] for words in self._lines(self._root / "etc/dhcpcd.conf")}
        by_dhcp = any(words[-1] == "dhcp" for words in self._stanzas(nic.link.name))
        by_dhcpcd = by_dhcp and options.isdisjoint(_NO_IPV6)
        return Autoconfiguration.STACK if by_dhcpcd else Autoconfiguration.KERNEL

    def conflict(self, nic: Nic) -> str | None:
        """Find a stanza that makes the NIC a port, or puts a VLAN on it."""
        if not self._is_installed():
            return None
        name, stanza = nic.link.name, ""
        for words in self._lines(self._file):
            key = words[0].replace("_", "-")
            if key == "iface" and len(words) > 1:
                stanza = words[1]
                if stanza.partition(".")[0] == name != stanza:
                    return f"has the VLAN {stanza} in {self._file}"
            elif key in _PORTS and _names(words[1:], name):
                return f"is a port of {stanza} in {self._file}"
            elif key == "bond-master" and stanza == name:
                return f"is a port of {' '.join(words[1:])} in {self._file}"
            elif key == "vlan-raw-device" and name in words[1:]:
                return f"has the VLAN {stanza} in {self._file}"
        return None

    def reload(self, bond: str) -> None:
        """Move the configuration from the standby to the bond, if ifupdown has configured it."""
        standby = standby_of(bond, self._root)
        if standby is not None and standby in self._configured():
            self._start("adopt", bond)

    def give_back(self, bond: str) -> None:
        """Move the configuration from the bond to the standby."""
        if bond in self._configured():
            self._start("release", bond)

    def _start(self, verb: str, bond: str) -> None:
        unit = f"guestagent-ifupdown@{verb}-{bond}.service"
        run_command("systemctl", "start", unit, hint=_HINT, timeout_s=_UNIT_TIMEOUT_S)

    def _is_installed(self) -> bool:
        return (self._programs / "ifup").exists()

    def _configured(self) -> frozenset[str]:
        """Return the interfaces that ifupdown has configured."""
        try:
            lines = read_user_file(self._state).splitlines()
        except OSError:
            return frozenset()
        return frozenset(line.partition("=")[0] for line in lines)

    def _stanzas(self, name: str) -> Iterator[list[str]]:
        """Yield the words of the first line of each stanza of an interface."""
        return (words for words in self._lines(self._file) if words[:2] == ["iface", name])

    def _lines(self, file: Path, depth: int = 0) -> Iterator[list[str]]:
        """Yield the words of each line of a file and of those that it includes (interfaces(5)).

        A file that cannot be read has no lines.
        """
        try:
            text = read_user_file(file)
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


def _names(ports: list[str], name: str) -> bool:
    """Whether a list of ports contains a NIC (bridge-utils-interfaces(5), bridge_ports).

    ``all`` stands for every NIC; the words after ``regex`` are patterns.
    """
    if ports[:1] == ["all"]:
        return True
    if "regex" not in ports:
        return name in ports
    at = ports.index("regex")
    return name in ports[:at] or any(_fits(pattern, name) for pattern in ports[at + 1 :])


def _fits(pattern: str, name: str) -> bool:
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error:
        return False
