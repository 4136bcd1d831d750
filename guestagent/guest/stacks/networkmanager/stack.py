"""NetworkManager: the bond gets the settings of the profile that the NIC had.

NetworkManager takes a bond that it did not make for *externally* configured,
and activating a profile on it would throw its ports out. Two of its ways take
a bond over as it is, ports and addresses included:

- while it runs, ``Reapply`` of the NIC's settings on the running device
  (NetworkManager: src/core/devices/nm-device.c, reapply_cb (1.52)). Addresses
  that are there already stay (NM_DEVICE_REAPPLY_FLAGS_PRESERVE_EXTERNAL_IP, 1.42).
  The profile that it had made up for the bond, a file in /run, gets them too;
- when it starts, it *assumes* the profile that its state file names for the
  device, as after a restart (src/core/nm-manager.c, get_existing_connection;
  src/core/nm-config.c, nm_config_device_state_load (1.52)).

A NIC that gets its addresses back is taken over by ``Reapply`` as well, with the
bond's settings: activating its own profile would take them off for a moment, and
what stable privacy makes of its name then may be another address.

The VF is off limits by the udev property NM_UNMANAGED. The standby is so only
while it loses its addresses and joins (``nmcli device set``, which leaves them
on the NIC until they are moved): a port that it does not make out to be
configured externally does not count, and no address is asked for on a bond
without ports (src/core/devices/nm-device.c, have_any_ready_ports (1.52)). Until
1.44 it looks at such a NIC only when the link changes next, and would activate a
profile of its own there first, which throws it out of the bond (same file,
_set_unmanaged_flags, device_recheck_slave_status (1.42)).

A stable-privacy address depends on the interface's name (``tokens``).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from guestagent.clock import Clock, Deadline
from guestagent.errors import DeadlineError
from guestagent.guest.core.model import Link, StackFile
from guestagent.guest.stacks import busctl
from guestagent.guest.stacks.file_cache import Reading, Stamps, stamps
from guestagent.guest.stacks.ini import parse, value_of
from guestagent.guest.stacks.ipv6_interface_ids import Tokens
from guestagent.guest.stacks.link_flap import touch
from guestagent.guest.stacks.networkmanager import keyfile
from guestagent.guest.stacks.networkmanager.keyfile import Profile
from guestagent.guest.stacks.tool import ask, make_directory, on_disk, runs, standby_of
from guestagent.guest.state.atomic_file import write_whole

NAMESPACE = uuid.UUID("5d3e6a52-40d8-4a8f-9a5e-6f0f4f2b7a11")
SEEN_TIMEOUT_S = 3.0
"""The agent waits that long in one go; it is tried again."""
_HINT = "look at `nmcli device` and `journalctl -u NetworkManager`; it is tried again"
_BUS_NAME = "org.freedesktop.NetworkManager"
_OBJECTS = "/org/freedesktop/NetworkManager"
_PRESERVE_EXTERNAL_IP = "1"
_PREPARE = 40
"""NM_DEVICE_STATE_PREPARE: from here on a device can be reapplied."""


class NetworkManager:
    """The profiles of one system's NetworkManager; ``root`` is where its files are."""

    def __init__(
        self,
        root: Path = Path("/"),
        *,
        state_dir: Path | None = None,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._root = root
        self._clock = clock
        self._sleep = sleep
        self._run = root / "run/NetworkManager"
        self._state = root / "var/lib/NetworkManager"
        self._kept = root / "run/guestagent/networkmanager"
        self._profiles = Reading(self._stamps, self._read_all)
        self._tokens = Tokens(state_dir or root / "var/lib/guestagent/networkmanager")

    @property
    def installed(self) -> bool:
        """Whether it is there at all."""
        return any(
            (self._root / path / "NetworkManager").exists() for path in ("usr/sbin", "usr/bin")
        )

    @property
    def running(self) -> bool:
        """Whether it can be asked."""
        return runs("NetworkManager.service", self._root)

    def manages(self, nic: Link) -> bool | None:
        """Whether it manages a NIC by its own word; None when it has none."""
        state = self._state_of(nic.ifindex)
        managed = value_of(parse(state), "device", "managed")
        return None if managed is None else managed == "true"

    def told(self, bond: str) -> bool:
        """Whether it has been told of a bond."""
        return self._profile(bond).exists()

    def files(self, *, bond: str, mac: str, standby: Link) -> tuple[StackFile, ...]:
        """Return what must be on disk for a pair, and whether it is."""
        source = keyfile.choose(self._profiles.now(), standby)
        if source is not None and source.controller is not None:
            return ()
        token = self._tokens.of(mac, standby)
        profile = keyfile.for_bond(
            source,
            bond=bond,
            nic=standby.name,
            identity=str(uuid.uuid5(NAMESPACE, f"{mac} {bond}")),
            token=token,
        )
        told = on_disk(self._profile(bond), profile)
        return (told,) if token is None else (told, self._tokens.file(mac, token))

    def autoconfigures(self, standby: Link) -> bool:
        """Whether it makes the IPv6 addresses of a NIC, which ``ignore`` leaves to the kernel."""
        source = keyfile.choose(self._profiles.now(), standby)
        return source is None or source.get("ipv6", "method") != "ignore"

    def claim(self, standby: Link) -> str | None:
        """Return what the profile of a NIC makes it a port of, in words, or None."""
        if not self.installed:
            return None
        source = keyfile.choose(self._profiles.now(), standby)
        if source is None or source.controller is None:
            return None
        return f"is a port of {source.controller} in {source.path}"

    def write(self, path: str, content: str) -> None:
        """Put a file in place. Raises OSError."""
        make_directory(Path(path).parent)
        write_whole(Path(path), content, mode=0o600)

    def let_go(self, bond: str, nic: str) -> None:
        """Have it leave a NIC alone, which keeps its addresses. Raises PeerError."""
        if self.told(bond) and self.running:
            ask("nmcli", "device", "set", nic, "managed", "no", hint=_HINT)

    def reload(self, bond: str) -> None:
        """Make it configure the bond: now if it runs, else when it starts. Raises PeerError."""
        profile = _read(self._profile(bond))
        ifindex = _read(self._root / f"sys/class/net/{bond}/ifindex")
        if profile is None or ifindex is None:
            return
        if not self.running:
            self.write(str(self._own_profile(bond)), profile)
            identity = value_of(parse(profile), "connection", "uuid")
            state = f"[device]\nmanaged=true\nconnection-uuid={identity}\n"
            path = self._run / "devices" / ifindex.strip()
            make_directory(path.parent)
            write_whole(path, state)
            return
        standby = standby_of(bond, self._root)
        if standby is not None:
            self._look_at(standby)
        self._take_over(bond, profile)

    def _take_over(self, device: str, profile: str) -> None:
        """Have it manage a device with addresses by a profile, as if it had put them there.

        One that it has configured by a profile of the user's it manages already.
        """
        made_up = self._made_up_profile(device)
        if made_up is None:
            return
        given = _read(made_up) or ""
        self._reapply(device, profile)
        # What it reads when it starts again. Reading it now would have it drop the
        # addresses that it has no lease for yet.
        self.write(str(made_up), keyfile.merged(given, profile))

    def _reapply(self, name: str, profile: str) -> None:
        """Give a running device the settings of a profile, and leave the addresses it has."""
        path = self._own_profile(name)
        identity = value_of(parse(profile), "connection", "uuid") or ""
        self.write(str(path), keyfile.inactive(profile))
        try:
            ask("nmcli", "connection", "load", str(path), hint=_HINT)
            (device,) = self._call("", "", "GetDeviceByIpIface", "s", name)
            (known,) = self._call("/Settings", ".Settings", "GetConnectionByUuid", "s", identity)
            object_path = known.removeprefix(_OBJECTS)
            (wanted,) = self._call(object_path, ".Settings.Connection", "GetSettings")
            device_path = device.removeprefix(_OBJECTS)
            applied, _ = self._call(device_path, ".Device", "GetAppliedConnection", "u", "0")
            words = busctl.words("a{sa{sv}}", keyfile.reapplied(applied, wanted))
            arguments = ("a{sa{sv}}tu", *words, "0", _PRESERVE_EXTERNAL_IP)
            self._call(device_path, ".Device", "Reapply", *arguments)
        finally:
            path.unlink(missing_ok=True)
            ask("nmcli", "connection", "reload", hint=_HINT)

    def _call(self, path: str, interface: str, method: str, *arguments: str) -> list[Any]:
        return busctl.call(
            _BUS_NAME, f"{_OBJECTS}{path}", interface, method, *arguments, hint=_HINT
        )

    def remove(self, bond: str) -> None:
        """Take away the files of a bond and give its NIC back. Raises OSError, PeerError."""
        if not self.told(bond):
            return
        profile = _read(self._profile(bond)) or ""
        for path in self._profiles_of(bond):
            path.unlink()
        if self.running:
            nic = keyfile.nic_of(profile)
            ask("nmcli", "connection", "reload", hint=_HINT)
            if nic is not None:
                # It takes a NIC with addresses for configured externally, and renews none.
                self._look_at(nic)
                self._take_over(nic, keyfile.for_nic(profile, nic))
        self._profile(bond).unlink()  # last: what failed before is tried again

    def _look_at(self, nic: str) -> None:
        """Have it find a NIC as it is, and activate nothing there.

        Whoever has switched that off for the NIC finds it so: what the agent itself has switched
        off is noted, for a call that is repeated.
        """
        ours = self._kept / f"{nic}.autoconnect"
        if not ours.exists() and _autoconnects(nic):
            self.write(str(ours), "")
        ask("nmcli", "device", "set", nic, "autoconnect", "no", "managed", "yes", hint=_HINT)
        if _is_active(self._wait_external(nic, touched=True)) and ours.exists():
            ask("nmcli", "device", "set", nic, "autoconnect", "yes", hint=_HINT)
            ours.unlink()

    def _wait_external(self, device: str, *, touched: bool = False) -> str:
        """Wait until it takes a device for configured externally; return its state in any case."""
        deadline = Deadline.after(SEEN_TIMEOUT_S, self._clock)
        while True:
            state = ask("nmcli", "-g", "GENERAL.STATE", "device", "show", device, hint=_HINT)
            if _is_active(state) or deadline.expired:
                return state
            if touched:
                touch(device)
            self._sleep(0.05)

    def _made_up_profile(self, device: str) -> Path | None:
        """Return the file of the profile that it has made up for a device that it found.

        None for a device that it has configured itself. Raises DeadlineError while it
        has not taken notice.
        """
        state = self._wait_external(device)
        if not state[:1].isdigit() or int(state.split()[0]) < _PREPARE:
            raise DeadlineError(
                f"NetworkManager has not taken notice of {device}: its state is {state.strip()}",
                hint=_HINT,
            )
        return next(iter(self._profiles_of(device)), None)

    def _profiles_of(self, device: str) -> list[Path]:
        """Return the files of those that it has made up for a device, rewritten or not."""
        return [
            profile.path
            for profile in self._read_profiles(self._run / "system-connections", made_up=True)
            if profile.interface == device and (profile.external or profile.rewritten)
        ]

    def _directories(self) -> tuple[Path, ...]:
        """Return where profiles are: those in /etc hide others of the same name."""
        return (
            self._root / "usr/lib/NetworkManager/system-connections",
            self._run / "system-connections",
            self._root / "etc/NetworkManager/system-connections",
        )

    def _stamps(self) -> Stamps:
        profiles = stamps(self._directories(), ".nmconnection")
        return profiles + stamps([self._state], "timestamps")

    def _read_all(self) -> tuple[Profile, ...]:
        """Return the profiles of the user."""
        found: dict[str, Profile] = {}
        for directory in self._directories():
            found.update({item.path.name: item for item in self._read_profiles(directory)})
        return tuple(found.values())

    def _read_profiles(self, directory: Path, *, made_up: bool = False) -> Iterator[Profile]:
        used = dict(
            value
            for name, pairs in parse(_read(self._state / "timestamps") or "")
            if name == "timestamps"
            for value in pairs
        )
        for path in sorted(directory.glob("*.nmconnection")) if directory.is_dir() else ():
            text = _read(path)
            profile = Profile.read(path, text, used) if text is not None else None
            if profile is not None and (made_up or not profile.made_up):
                yield profile

    def _own_profile(self, bond: str) -> Path:
        return self._run / "system-connections" / f"guestagent-{bond}.nmconnection"

    def _profile(self, bond: str) -> Path:
        return self._kept / f"{bond}.nmconnection"

    def _state_of(self, ifindex: int) -> str:
        return _read(self._run / "devices" / str(ifindex)) or ""


def _autoconnects(nic: str) -> bool:
    word = ask("nmcli", "-g", "GENERAL.AUTOCONNECT", "device", "show", nic, hint=_HINT)
    return word.strip() != "no"


def _is_active(state: str) -> bool:
    return state.startswith("100")


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return None
