"""NetworkManager: the bond gets the settings of the profile that the NIC had.

NetworkManager takes a bond over in one of two ways, each with its ports and addresses:

- While it runs, by ``Reapply`` on the running device (``service``). The profile that it generated
  for the bond, a file in /run, gets the same settings.
- When it starts, it *assumes* the profile that its state file names for the device, as after a
  restart (NetworkManager: src/core/nm-manager.c, get_existing_connection; src/core/nm-config.c,
  nm_config_device_state_load (1.52)).

A NIC that gets its addresses back is taken over by ``Reapply`` too, with the settings of the bond.
Activating its own profile would remove the addresses for a moment, and stable privacy may make
another address of its name.

The udev property NM_UNMANAGED keeps NetworkManager off the VF. The standby is unmanaged only while
it loses its addresses and joins (``nmcli device set``, which leaves the addresses until they are
moved): a port that NetworkManager does not consider externally configured does not count, and it
requests no address on a bond without ports (src/core/devices/nm-device.c, have_any_ready_ports
(1.52)). Before 1.44 NetworkManager looks at such a NIC only when its link changes, and would first
activate a profile of its own there, which throws the NIC out of the bond (same file,
_set_unmanaged_flags, device_recheck_slave_status (1.42)).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from guestagent.guest.core.link import Autoconfiguration, Link
from guestagent.guest.core.snapshot import StackFile
from guestagent.guest.stacks.base import NetworkStack, Nic, Ownership, Strength
from guestagent.guest.stacks.commands import service_is_running
from guestagent.guest.stacks.file_cache import CachedFiles, Fingerprint, fingerprint_of
from guestagent.guest.stacks.files import make_directory, read_or_none, stack_file, standby_of
from guestagent.guest.stacks.ini import entries, parse, value_of
from guestagent.guest.stacks.ipv6_interface_ids import InterfaceIds
from guestagent.guest.stacks.networkmanager import bond_profile, keyfile
from guestagent.guest.stacks.networkmanager.keyfile import Profile
from guestagent.guest.stacks.networkmanager.service import Service
from guestagent.guest.state.atomic_file import write_whole

PROFILES = "NetworkManager/system-connections"
PROFILE_DIRS = ("usr/lib", "run", "etc")
"""Places of ``PROFILES`` below the root; a later one masks the names of the others."""


class NetworkManager(NetworkStack):
    """NetworkManager of the system below ``root``.

    The agent keeps the profile of each bond in a directory of its own, where NetworkManager does
    not read it: such a file is the record that NetworkManager has, or is to have, the bond.
    """

    file_mode = 0o600

    def __init__(self, root: Path = Path("/"), *, service: Service | None = None) -> None:
        self._root = root
        self._run = root / "run/NetworkManager"
        self._state = root / "var/lib/NetworkManager"
        self._profile_dirs = tuple(root / path / PROFILES for path in PROFILE_DIRS)
        self._records = root / "run/guestagent/networkmanager"
        self._ids = InterfaceIds(root / "var/lib/guestagent/networkmanager")
        self.directories = (self._records, self._ids.directory)
        self._service = service or Service()
        self._profiles = CachedFiles(self._fingerprint, self._users_profiles)

    def ownership(self, nic: Nic) -> Ownership:
        """Own the NICs that it manages by its own state file, and those that nobody else has."""
        if not self._is_installed():
            return Ownership(Strength.NO)
        if self._has_file_for(nic.bond):
            return Ownership(Strength.CONFIRMED)
        state = read_or_none(self._run / "devices" / str(nic.link.ifindex)) or ""
        managed = value_of(parse(state), "device", "managed")
        if managed is None:
            return Ownership(Strength.DEFAULT)
        return Ownership(Strength.CONFIRMED if managed == "true" else Strength.NO)

    def conflict(self, nic: Nic) -> str | None:
        """Find a profile that makes the NIC a port."""
        source = self._profile_of(nic.link) if self._is_installed() else None
        if source is None or source.controller is None:
            return None
        return f"is a port of {source.controller} in {source.path}"

    def autoconfiguration(self, nic: Nic) -> Autoconfiguration:
        """Tell that NetworkManager makes all IPv6 addresses, unless the method is ``ignore``."""
        source = self._profile_of(nic.link)
        ignored = source is not None and source.get("ipv6", "method") == "ignore"
        return Autoconfiguration.KERNEL if ignored else Autoconfiguration.STACK

    def files(self, nic: Nic, *, owned: bool) -> tuple[StackFile, ...]:
        """Return the record with the bond's profile, and the interface identifier to keep."""
        source = self._profile_of(nic.link)
        if not owned or (source is not None and source.controller is not None):
            return ()
        interface_id = self._ids.of(nic.mac, nic.link)
        profile = bond_profile.for_bond(source, nic, interface_id)
        record = stack_file(self._record(nic.bond), profile)
        return record, *self._ids.files(nic.mac, interface_id)

    def detach(self, bond: str, device: str) -> None:
        """Make a running NetworkManager leave a device alone."""
        if self._has_file_for(bond) and self._is_running():
            self._service.unmanage(device)

    def reload(self, bond: str) -> None:
        """Make it configure the bond by its record: now if it runs, else when it starts."""
        profile = read_or_none(self._record(bond))
        ifindex = read_or_none(self._root / f"sys/class/net/{bond}/ifindex")
        if profile is None or ifindex is None:
            return
        if not self._is_running():
            self._prepare_start(bond, ifindex.strip(), profile)
            return
        standby = standby_of(bond, self._root)
        if standby is not None:
            self._service.manage_as_found(standby, self._note(standby))
        self._take_over(bond, profile)

    def give_back(self, bond: str) -> None:
        """Make it forget the bond and take over the NIC, which has the addresses already."""
        if not self._has_file_for(bond):
            return
        profile = read_or_none(self._record(bond)) or ""
        for path in self._generated_profiles(bond):
            path.unlink()
        if self._is_running():
            self._service.reload_profiles()
            nic = bond_profile.nic_of(profile)
            if nic is not None:
                # It considers a NIC with addresses externally configured, and renews no lease.
                self._service.manage_as_found(nic, self._note(nic))
                self._take_over(nic, bond_profile.for_nic(profile, nic))
        self._record(bond).unlink()  # last, so that a failure before it is repeated

    def _prepare_start(self, bond: str, ifindex: str, profile: str) -> None:
        """Write the profile of a bond, and name it in the state file of the device."""
        self.write(str(self._loaded_path(bond)), profile)
        identity = value_of(parse(profile), "connection", "uuid")
        state = self._run / "devices" / ifindex
        make_directory(state.parent)
        write_whole(state, f"[device]\nmanaged=true\nconnection-uuid={identity}\n")

    def _take_over(self, device: str, profile: str) -> None:
        """Make it manage a device as if it had configured the addresses by ``profile``.

        A device that it has configured by a profile of the user needs nothing: it has no
        generated profile.
        """
        self._service.wait_until_noticed(device)
        generated = next(iter(self._generated_profiles(device)), None)
        if generated is None:
            return
        former = read_or_none(generated) or ""
        make_directory(self._loaded_path(device).parent)
        self._service.reapply(device, profile, self._loaded_path(device))
        # For its next start. Reading this now it would remove the addresses without a lease.
        self.write(str(generated), bond_profile.merged(former, profile))

    def _is_installed(self) -> bool:
        return any(
            (self._root / f"usr/{name}/NetworkManager").exists() for name in ("sbin", "bin")
        )

    def _is_running(self) -> bool:
        return service_is_running("NetworkManager.service", self._root)

    def _has_file_for(self, bond: str) -> bool:
        return self._record(bond).exists()

    def _record(self, bond: str) -> Path:
        return self._records / f"{bond}.nmconnection"

    def _note(self, nic: str) -> Path:
        return self._records / f"{nic}.autoconnect"

    def _loaded_path(self, device: str) -> Path:
        """Return where NetworkManager reads a profile of the agent."""
        return self._run / "system-connections" / f"guestagent-{device}.nmconnection"

    def _profile_of(self, nic: Link) -> Profile | None:
        return keyfile.choose(self._profiles.current(), nic)

    def _generated_profiles(self, device: str) -> list[Path]:
        """Return the profiles that it generated for a device, rewritten by the agent or not."""
        return [
            profile.path
            for profile in self._read_profiles(self._run / "system-connections")
            if profile.interface == device and (profile.is_external or profile.is_rewritten)
        ]

    def _fingerprint(self) -> Fingerprint:
        profiles = fingerprint_of(self._profile_dirs, ".nmconnection")
        return profiles + fingerprint_of([self._state], "timestamps")

    def _users_profiles(self) -> tuple[Profile, ...]:
        found: dict[str, Profile] = {}
        for directory in self._profile_dirs:
            profiles = self._read_profiles(directory)
            found.update({item.path.name: item for item in profiles if not item.is_generated})
        return tuple(found.values())

    def _read_profiles(self, directory: Path) -> Iterator[Profile]:
        timestamps = parse(read_or_none(self._state / "timestamps") or "")
        used = dict(entries(timestamps, "timestamps"))
        for path in sorted(directory.glob("*.nmconnection")) if directory.is_dir() else ():
            text = read_or_none(path)
            if text is not None:
                yield Profile.read(path, text, used)
