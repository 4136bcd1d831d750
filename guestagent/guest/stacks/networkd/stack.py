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

Files are taken in the order of their base names, /etc before /run before /usr/lib
for one name, and the first match wins (systemd.network(5)).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from guestagent.guest.core.model import Link, StackFile
from guestagent.guest.stacks.file_cache import Reading, stamps
from guestagent.guest.stacks.iaid import iaid_of_nic
from guestagent.guest.stacks.ini import parse, value_of
from guestagent.guest.stacks.ipv6_interface_ids import Tokens
from guestagent.guest.stacks.networkd.network_file import Matchable, NetworkFile, is_stable_privacy
from guestagent.guest.stacks.tool import ask, make_directory, on_disk, runs, text_of
from guestagent.guest.state.atomic_file import write_whole

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
            # Of a file that is the bond's as well networkd would not wait for the take-over: it
            # would ask for the NIC's addresses on the bond, and drop them when it is told.
            before = _unmanaged(bond) if taken is source else None
            # What was written for a live take-over holds until the next boot.
            name = f"{PREFIX}{bond}.network"
            files.append(self._stack_file(name, content, also=kept, before=before))
        return tuple(files)

    def returned(
        self, *, bond: str, nic: Link, properties: Callable[[], Mapping[str, str]]
    ) -> tuple[StackFile, ...]:
        """Return what must be on disk when a NIC gets back what its bond has.

        A NIC of which none of the user's files is true has to be told what its bond was
        told: the name that the file goes by is the one that its VF got (``_of_nic``).
        """
        link = Matchable.nic(nic, properties)
        source = self._given(link)
        lacking = source is None and self.told(bond)
        if lacking:
            source = next((file for file in self._users() if file.is_of_mac(link)), None)
        if source is None or not source.movable or not (lacking or _keep(source)):
            return ()
        match = f"[Match]\nPermanentMACAddress={nic.permanent_address}\nDriver={nic.driver}\n"
        content = _copy(source, nic.name, match) + _keep(source)
        files = [self._stack_file(f"{PREFIX}{bond}-standby.network", content)]
        if self._given(Matchable.bond(bond, nic.address)) is source:
            # By its MAC: the bond, until it is gone, would ask for an address as another client.
            files.append(self._stack_file(f"{LATER_PREFIX}{bond}.network", _unmanaged(bond)))
        return tuple(files)

    def told(self, bond: str) -> bool:
        """Whether it has been given a file for a bond."""
        return (self._runtime / f"{PREFIX}{bond}.network").exists()

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

    def doubt(self, standby: Link, properties: Callable[[], Mapping[str, str]]) -> str | None:
        """Return why it cannot be told which file is the NIC's, in words, or None."""
        nic = Matchable.nic(standby, properties)
        for file in self._users():
            key = file.condition(nic)
            if key is not None and self._is_used():
                holds = f"if {key}= holds, which the agent cannot tell (without that key it can)"
                return f"is configured by {file.path} {holds}"
            if file.matches(nic):
                break
        return None

    def _is_used(self) -> bool:
        """Whether it runs, or will in this boot."""
        units = ("etc/systemd/system", "usr/lib/systemd/system")
        return runs("systemd-networkd.service", self._root) or any(
            any((self._root / place).glob("*.wants/systemd-networkd.service")) for place in units
        )

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
        return next((file for file in self._users() if file.matches(link)), None)

    def _users(self) -> Iterator[NetworkFile]:
        return (file for file in self._network_files.now() if not _is_own(file.path.name))

    def _stack_file(
        self, name: str, content: str, *, also: str | None = None, before: str | None = None
    ) -> StackFile:
        return on_disk(self._runtime / name, content, also=also, before=before)

    def _read_network_files(self) -> Iterator[NetworkFile]:
        """Yield the files in their order."""
        paths: dict[str, Path] = {}
        for directory in reversed(self._dirs):
            if directory.is_dir():
                paths.update({p.name: p for p in directory.iterdir() if p.suffix == ".network"})
        for name in sorted(paths):
            try:
                text = text_of(paths[name])
                drop_ins = "".join(f"\n{text_of(p)}" for p in self._drop_ins(name))
            except OSError:
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


def _unmanaged(bond: str) -> str:
    return f"{_header(bond)}[Match]\nName={bond}\nKind=bond\n\n[Link]\nUnmanaged=yes\n"


def _copy(source: NetworkFile, link: str, match: str, token: str | None = None) -> str:
    """Return the file for another link, with a token in place of stable-privacy addresses."""
    lines = [_header(f"{link}, from {source.path}"), match]
    for name, pairs in source.sections:
        if name != "Match":
            lines.append(f"\n[{name}]\n")
            lines.extend(
                f"{key}=static:{token}\n"
                if token is not None and is_stable_privacy(name, key, value)
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
