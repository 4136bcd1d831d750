"""systemd-networkd: the bond is configured by a copy of the file that configured the NIC.

networkd configures an interface by the first ``.network`` file that matches it. Files are taken
in the order of their base names; of two with one name the one in /etc counts before /run and
/usr/lib (systemd.network(5)). netplan's files are among them: it writes them to /run at boot.

The agent writes two files for each bond to /run. The first declares every physical NIC with the
pair's MAC address unmanaged. The second configures the bond (``bond_file``). Both are derived from
the files on disk, so they are the same before networkd has started, and a reboot removes them. A
bond for which the user has a file gets no second file. A file that was written for a live
take-over stays unchanged until the next boot: rewriting it would make networkd configure the bond
anew (systemd: src/network/networkd-link.c, link_reconfigure_impl (252)).

A NIC that gets its addresses back has a file of its own, which sorts after the one that declares
it a port.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from guestagent.guest.core.link import Autoconfiguration
from guestagent.guest.core.snapshot import StackFile
from guestagent.guest.stacks.base import NetworkStack, Nic, Ownership, Strength
from guestagent.guest.stacks.commands import run_command, service_is_running
from guestagent.guest.stacks.file_cache import CachedFiles, fingerprint_of
from guestagent.guest.stacks.files import read_user_file, stack_file
from guestagent.guest.stacks.ipv6_interface_ids import InterfaceIds
from guestagent.guest.stacks.networkd import bond_file
from guestagent.guest.stacks.networkd.network_file import Matchable, NetworkFile

RUNTIME_DIR = "run/systemd/network"
CONFIGURATION_DIRS = (
    "etc/systemd/network",
    RUNTIME_DIR,
    "usr/local/lib/systemd/network",
    "usr/lib/systemd/network",
)
"""In order of precedence, below the root."""
PREFIX = "05-guestagent-"
LATER_PREFIX = "06-guestagent-"
"""Prefix of a file that counts once the bond has no file with ``PREFIX`` any more."""
_UNIT = "systemd-networkd.service"


class Networkd(NetworkStack):
    """systemd-networkd of the system below ``root``."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._runtime = root / RUNTIME_DIR
        self._ids = InterfaceIds(root / "var/lib/guestagent/networkd")
        self.directories = (self._runtime, self._ids.directory)
        configuration = tuple(root / path for path in CONFIGURATION_DIRS)
        self._network_files = CachedFiles(
            lambda: fingerprint_of(configuration, ".network"),
            lambda: tuple(_read_network_files(configuration)),
        )

    def ownership(self, nic: Nic) -> Ownership:
        """Own the NICs that a file matches, and the bonds that have a file of the agent."""
        users = self._users_files()
        configured = self._has_file_for(nic.bond) or _configures(_source(users, nic))
        return Ownership(
            Strength.CONFIGURED if configured else Strength.NO, doubt=self._doubt(users, nic)
        )

    def conflict(self, nic: Nic) -> str | None:
        """Find a file that makes the NIC itself a port."""
        source = _source(self._users_files(), nic)
        if source is None or source.controller is None:
            return None
        return f"is a port of {source.controller} in {source.path}"

    def autoconfiguration(self, nic: Nic) -> Autoconfiguration:
        """Tell that networkd hears the routers of each NIC that it configures."""
        configured = _configures(_source(self._users_files(), nic))
        return Autoconfiguration.ROUTERS if configured else Autoconfiguration.KERNEL

    def files(self, nic: Nic, *, owned: bool) -> tuple[StackFile, ...]:
        """Return the file for the ports, and the one for the bond where the user has none.

        networkd acts on each file that matches, whether another stack has the NIC or not.
        """
        path = self._runtime / f"{PREFIX}{nic.bond}-ports.network"
        ports = stack_file(path, bond_file.ports_unmanaged(nic))
        users = self._users_files()
        source = _source(users, nic)
        if source is None or not source.movable:
            return (ports,)
        of_bond = _first_match(users, Matchable.bond(nic.bond, nic.mac))
        if of_bond is not None and of_bond is not source:
            return (ports,)
        # The NIC's file may match the bond too, by MAC address. It lacks the DHCP client's
        # identity, and networkd would not wait for the take-over: it would request the NIC's
        # addresses on the bond, and drop them when it reads the bond's file.
        is_shared = of_bond is source
        if is_shared and not source.dynamic:
            return (ports,)
        interface_id = self._ids.of(nic.mac, nic.link) if source.stable_privacy else None
        for_boot = bond_file.for_bond(source, nic, interface_id)
        for_take_over = for_boot + bond_file.keep_addresses(source)
        bond = stack_file(
            self._bond_path(nic.bond),
            for_take_over if nic.link.addresses else for_boot,
            also=for_take_over,
            pre_takeover=bond_file.bond_unmanaged(nic.bond) if is_shared else None,
        )
        return ports, *self._ids.files(nic.mac, interface_id), bond

    def files_for_return(self, nic: Nic, *, owned: bool) -> tuple[StackFile, ...]:
        """Return the file by which the NIC keeps the addresses of its bond.

        If no file of the user matches the NIC, the bond was configured by the one for the
        name of the VF (``_source``). The NIC needs the same file, found by its MAC address.
        """
        if not owned:
            return ()
        users = self._users_files()
        link = Matchable.nic(nic.link, nic.properties)
        source = _first_match(users, link)
        is_named_otherwise = source is None and self._has_file_for(nic.bond)
        if is_named_otherwise:
            source = next((file for file in users if file.is_of_mac(link)), None)
        if source is None or not source.movable:
            return ()
        if not is_named_otherwise and not bond_file.keep_addresses(source):
            return ()
        path = self._runtime / f"{PREFIX}{nic.bond}-standby.network"
        file = stack_file(path, bond_file.for_nic(source, nic))
        if _first_match(users, Matchable.bond(nic.bond, nic.link.address)) is not source:
            return (file,)
        # The file matches the bond too, by MAC address: until the bond has gone, networkd would
        # request an address there as another client.
        path = self._runtime / f"{LATER_PREFIX}{nic.bond}.network"
        return file, stack_file(path, bond_file.bond_unmanaged(nic.bond))

    def reload(self, bond: str) -> None:
        """Make networkd read its files, if it runs.

        ``networkctl reload`` returns when the files are read and every interface that they concern
        is being reconfigured (networkctl(1)).
        """
        if service_is_running(_UNIT, self._root):
            run_command(
                *("networkctl", "reload"),
                hint="the files are in place; look at `journalctl -u systemd-networkd`",
            )

    def give_back(self, bond: str) -> None:
        """Remove the files of a bond; absent ones are fine. ``reload`` makes networkd notice.

        The file of the NIC stays until the next boot: without it networkd would request the
        NIC's addresses anew.
        """
        self._bond_path(bond).unlink(missing_ok=True)
        (self._runtime / f"{PREFIX}{bond}-ports.network").unlink(missing_ok=True)

    def first_match(self, link: Matchable) -> NetworkFile | None:
        """Return the file by which networkd configures a link, the agent's files included."""
        return _first_match(self._network_files.current(), link)

    def _doubt(self, users: Sequence[NetworkFile], nic: Nic) -> str | None:
        """Return the reason why it is unknown which file the NIC has: a condition in [Match]."""
        link = Matchable.nic(nic.link, nic.properties)
        for file in users:
            key = file.condition(link)
            if key is not None and self._is_used():
                return (
                    f"is configured by {file.path} only if {key}= holds, and the agent does not"
                    " evaluate this key: configure the NIC by a file without it"
                )
            if file.matches(link):
                break
        return None

    def _is_used(self) -> bool:
        """Whether networkd runs, or will run in this boot."""
        units = ("etc/systemd/system", "usr/lib/systemd/system")
        return service_is_running(_UNIT, self._root) or any(
            any((self._root / place).glob(f"*.wants/{_UNIT}")) for place in units
        )

    def _users_files(self) -> list[NetworkFile]:
        """Return all files but those of the agent."""
        own = (PREFIX, LATER_PREFIX)
        files = self._network_files.current()
        return [file for file in files if not file.path.name.startswith(own)]

    def _has_file_for(self, bond: str) -> bool:
        return self._bond_path(bond).exists()

    def _bond_path(self, bond: str) -> Path:
        return self._runtime / f"{PREFIX}{bond}.network"


def _first_match(files: Sequence[NetworkFile], link: Matchable) -> NetworkFile | None:
    return next((file for file in files if file.matches(link)), None)


def _source(users: Sequence[NetworkFile], nic: Nic) -> NetworkFile | None:
    """Return the NIC's .network file, or the one that matches its VF's name if it has none.

    netplan's set-name goes by MAC address. If the VF is found first at a boot, chance decides
    which of the two NICs gets the name, and the file matches MAC address and name.
    """
    link = Matchable.nic(nic.link, nic.properties)
    own = _first_match(users, link)
    if own is None and nic.vf_name is not None:
        own = _first_match(users, replace(link, name=nic.vf_name))
    return own


def _configures(source: NetworkFile | None) -> bool:
    return source is not None and not source.unmanaged


def _read_network_files(directories: tuple[Path, ...]) -> Iterator[NetworkFile]:
    """Yield the files in the order in which networkd takes them."""
    for name, path in _by_name(directories, ".network"):
        try:
            text = read_user_file(path)
            drop_ins = _by_name(tuple(item / f"{name}.d" for item in directories), ".conf")
            more = "".join(f"\n{read_user_file(drop_in)}" for _, drop_in in drop_ins)
        except OSError:
            continue
        # An empty file, or a link to /dev/null, masks the others of its name.
        if text.strip():
            yield NetworkFile.parse(path, text + more)


def _by_name(directories: tuple[Path, ...], suffix: str) -> list[tuple[str, Path]]:
    """Return the files with a suffix by name, each from the first directory that has the name."""
    found: dict[str, Path] = {}
    for directory in reversed(directories):
        if directory.is_dir():
            found.update(
                {path.name: path for path in directory.iterdir() if path.suffix == suffix}
            )
    return sorted(found.items())
