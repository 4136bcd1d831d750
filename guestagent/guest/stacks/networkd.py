"""systemd-networkd: the bond gets the configuration that the NIC had.

networkd configures what a ``.network`` file matches. Two files in /run make
it leave the ports alone and treat the bond as it treated the standby: one
that declares every physical NIC of the pair's MAC unmanaged, one that is the
standby's own file with another [Match] section. Both are derived from the
files on disk, so they are the same before networkd has started, and they go
with a reboot. A bond for which the user has a file of its own gets none.
netplan's files for networkd are among them: it writes them to /run at boot.

Four things differ from the standby's own words. A stable-privacy address
depends on the interface's name, so its token is a fixed one (``tokens``). The
IAID, which networkd derives from that name too, is added: without it the bond
would be another client to a DHCP server. So is ``KeepConfiguration=yes`` when
the bond takes over a NIC in use: networkd drops what it finds on an interface
that it begins to configure and asks for it anew, which leaves the guest without
its address for as long as the servers take. Such a file stays as it is until the next
boot; rewriting it would make networkd configure the bond anew (systemd:
src/network/networkd-link.c, link_reconfigure_impl (252)). The same goes for
a NIC that gets its configuration back: it has a file of its own then, which
is no other file's business and comes after the one that makes it a port.

And the lease is not released when networkd stops its
client on the bond. The address then is on the NIC again, and in use.

Matching follows systemd.network(5), section [Match]: files are taken in the
order of their base names, /etc before /run before /usr/lib for one name, and
the first match wins.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from guestagent.guest.model import Link, StackFile
from guestagent.guest.remembered import write_whole
from guestagent.guest.stacks.iaid import iaid_of_nic
from guestagent.guest.stacks.sections import Sections, parse, value_of
from guestagent.guest.stacks.stamps import Reading, stamps
from guestagent.guest.stacks.tokens import Tokens
from guestagent.guest.stacks.tool import ask, make_directory, on_disk, runs

CONFIGURATION_DIRS = (
    Path("/etc/systemd/network"),
    Path("/run/systemd/network"),
    Path("/usr/local/lib/systemd/network"),
    Path("/usr/lib/systemd/network"),
)
RUNTIME_DIR = Path("/run/systemd/network")
NETWORKD_STATE = Path("/run/systemd/netif/state")
PREFIX = "05-guestagent-"
LATER_PREFIX = "06-guestagent-"
"""Of what is for a bond that has no file of its own any more."""
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
        keys = [pair for name, pairs in self.sections if name == "Match" for pair in pairs]
        return bool(keys) and all(_holds(key, value, link) for key, value in keys)

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
            _is_stable_privacy(name, key, value)
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


class Networkd:
    """The files of one system's networkd; ``dirs`` in their order of precedence."""

    def __init__(
        self,
        dirs: tuple[Path, ...] = CONFIGURATION_DIRS,
        runtime: Path = RUNTIME_DIR,
        root: Path = Path("/"),
        *,
        state_dir: Path | None = None,
    ) -> None:
        self._dirs = dirs
        self._tokens = Tokens(state_dir or root / "var/lib/guestagent/networkd")
        self._runtime = runtime
        self._root = root
        self._network_files = Reading(
            lambda: stamps(self._dirs, ".network"), lambda: tuple(self._read_network_files())
        )

    def files(
        self, *, bond: str, mac: str, standby: Link, properties: Callable[[], Mapping[str, str]]
    ) -> tuple[StackFile, ...]:
        """Return what must be on disk for a pair, and whether it is."""
        ports = f"[Match]\nPermanentMACAddress={mac}\nKind=!bond\n\n[Link]\nUnmanaged=yes\n"
        files = [
            self._stack_file(
                f"{PREFIX}{bond}-ports.network", f"{_header('the ports of ' + bond)}{ports}"
            )
        ]
        source = self._of_nic(standby, properties)
        taken = self._given(Matchable.bond(bond, mac))
        # A file of the NIC that matches the bond as well will do, but for the identity.
        lacking = taken is None or (taken is source and taken.dynamic)
        if source is not None and lacking and source.movable:
            token = self._tokens.of(mac, standby) if source.stable_privacy else None
            if token is not None:
                files.append(self._tokens.file(mac, token))
            match = f"[Match]\nName={bond}\nKind=bond\n"
            own = _copy(source, bond, match, token)
            own += _identity(source, iaid_of_nic(mac, properties()))
            kept = own + _keep(source)
            content = kept if standby.addresses else own
            # What was written for a live take-over holds until the next boot.
            files.append(self._stack_file(f"{PREFIX}{bond}.network", content, also=kept))
        return tuple(files)

    def returned(
        self, *, bond: str, nic: Link, properties: Callable[[], Mapping[str, str]]
    ) -> tuple[StackFile, ...]:
        """Return what must be on disk when a NIC gets back what its bond has."""
        source = self._of_nic(nic, properties)
        if source is None or not source.movable or not _keep(source):
            return ()
        match = f"[Match]\nPermanentMACAddress={nic.permanent_address}\nDriver={nic.driver}\n"
        content = _copy(source, nic.name, match) + _keep(source)
        files = [self._stack_file(f"{PREFIX}{bond}-standby.network", content)]
        if self._given(Matchable.bond(bond, nic.address)) is source:
            # By its MAC: the bond, until it is gone, would ask for an address as another client.
            left = f"{_header(bond)}[Match]\nName={bond}\nKind=bond\n\n[Link]\nUnmanaged=yes\n"
            files.append(self._stack_file(f"{LATER_PREFIX}{bond}.network", left))
        return tuple(files)

    def configures(self, standby: Link, properties: Callable[[], Mapping[str, str]]) -> bool:
        """Whether a file on disk gives the NIC a configuration."""
        source = self._of_nic(standby, properties)
        return source is not None and not source.unmanaged

    def claim(self, standby: Link, properties: Callable[[], Mapping[str, str]]) -> str | None:
        """Return what the file of a NIC makes it a port of, in words, or None."""
        source = self._of_nic(standby, properties)
        if source is None or source.controller is None:
            return None
        return f"is a port of {source.controller} in {source.path}"

    def owns(self, path: str) -> bool:
        """Whether a file is one of this stack's."""
        return Path(path).parent == self._runtime or self._tokens.owns(Path(path))

    def first_match(self, link: Matchable) -> NetworkFile | None:
        """Return the file that networkd takes for a link, of all that are on disk."""
        return next((file for file in self._network_files.now() if file.matches(link)), None)

    def write(self, path: str, content: str) -> None:
        """Put a file in place. Raises OSError."""
        make_directory(Path(path).parent)
        write_whole(Path(path), content)

    def remove(self, bond: str) -> None:
        """Take away the files of a bond; absent ones are fine. Raises OSError.

        What the NIC has got back stays until the next boot, or networkd would ask anew.
        """
        for name in (f"{PREFIX}{bond}.network", f"{PREFIX}{bond}-ports.network"):
            (self._runtime / name).unlink(missing_ok=True)

    def reload(self) -> None:
        """Make networkd read its files, when it runs. Raises PeerError.

        ``networkctl reload`` returns when the new files are read and every link
        that they concern is being reconfigured (networkctl(1)).
        """
        if runs("systemd-networkd.service", self._root):
            ask(
                *("networkctl", "reload"),
                hint="the files are in place; look at `journalctl -u systemd-networkd`",
            )

    def _of_nic(
        self, nic: Link, properties: Callable[[], Mapping[str, str]]
    ) -> NetworkFile | None:
        """Return the file of a NIC, without one that of the name that its VF has.

        netplan's set-name is by MAC: which of the two gets the name is chance where the
        VF is found first at a boot, and the file goes by MAC and name.
        """
        own = self._given(Matchable.nic(nic, properties))
        if own is None and nic.twin is not None:
            own = self._given(Matchable.nic(replace(nic, name=nic.twin), properties))
        return own

    def _given(self, link: Matchable) -> NetworkFile | None:
        """Return the file that it would take without those of the agent."""
        files = (file for file in self._network_files.now() if not _is_own(file.path.name))
        return next((file for file in files if file.matches(link)), None)

    def _stack_file(self, name: str, content: str, *, also: str | None = None) -> StackFile:
        return on_disk(self._runtime / name, content, also=also)

    def _read_network_files(self) -> Iterator[NetworkFile]:
        """Yield the files in their order."""
        paths: dict[str, Path] = {}
        for directory in reversed(self._dirs):
            if directory.is_dir():
                paths.update({p.name: p for p in directory.iterdir() if p.suffix == ".network"})
        for name in sorted(paths):
            try:
                text = paths[name].read_text()
                drop_ins = "".join(f"\n{p.read_text()}" for p in self._drop_ins(name))
            except (OSError, UnicodeDecodeError):
                continue
            # An empty file, or a link to /dev/null, masks those of its name.
            if text.strip():
                yield NetworkFile(path=paths[name], sections=parse(text + drop_ins))

    def _drop_ins(self, name: str) -> list[Path]:
        found: dict[str, Path] = {}
        for directory in reversed(self._dirs):
            drop = directory / f"{name}.d"
            if drop.is_dir():
                found.update({p.name: p for p in drop.iterdir() if p.suffix == ".conf"})
        return [found[key] for key in sorted(found)]


def _is_own(name: str) -> bool:
    return name.startswith((PREFIX, LATER_PREFIX))


def _header(what: str) -> str:
    return f"# Written by guestagent for {what}; it goes with a reboot.\n"


def _is_stable_privacy(section: str, key: str, value: str) -> bool:
    """Whether a line asks for that: ``Token=``, or ``IPv6Token=`` as it was called before 250."""
    return value.startswith("prefixstable") and (section, key) in {
        ("IPv6AcceptRA", "Token"),
        ("Network", "IPv6Token"),
    }


def _copy(source: NetworkFile, link: str, match: str, token: str | None = None) -> str:
    """Return the file for another link, with a token in place of stable-privacy addresses."""
    lines = [_header(f"{link}, from {source.path}"), match]
    for name, pairs in source.sections:
        if name != "Match":
            lines.append(f"\n[{name}]\n")
            lines.extend(
                f"{key}=static:{token}\n"
                if token is not None and _is_stable_privacy(name, key, value)
                else f"{key}={value}\n"
                for key, value in pairs
            )
    return "".join(lines)


def _identity(source: NetworkFile, number: int) -> str:
    """Return what makes the bond the DHCP client that the NIC was, and will be again."""
    if not source.dynamic:
        return ""
    unreleased = "\n[DHCPv4]\nSendRelease=no\n\n[DHCPv6]\nSendRelease=no\n"
    set_already = any(
        value_of(source.sections, section, "IAID") for section in ("DHCPv4", "DHCP", "DHCPv6")
    )
    if set_already:
        return unreleased
    return f"{unreleased}\n[DHCPv4]\nIAID={number}\n\n[DHCPv6]\nIAID={number}\n"


def _keep(source: NetworkFile) -> str:
    """Return what makes networkd take over addresses that are there already."""
    given = value_of(source.sections, "Network", "KeepConfiguration")
    return "" if given or not source.dynamic else "\n[Network]\nKeepConfiguration=yes\n"


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
