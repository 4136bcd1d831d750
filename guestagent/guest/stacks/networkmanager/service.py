"""A NetworkManager that runs: requests by nmcli and D-Bus.

NetworkManager considers a bond that it did not make *externally* configured, and activating a
profile on it would throw its ports out. ``Reapply`` of settings on the running device takes the
bond over as it is, ports and addresses included (NetworkManager: src/core/devices/nm-device.c,
reapply_cb (1.52)). Addresses on the device stay (NM_DEVICE_REAPPLY_FLAGS_PRESERVE_EXTERNAL_IP,
1.42).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from guestagent.clock import Clock, Deadline
from guestagent.errors import DeadlineError
from guestagent.guest.stacks.commands import run_command
from guestagent.guest.stacks.ini import parse, value_of
from guestagent.guest.stacks.networkmanager import bond_profile, busctl
from guestagent.guest.stacks.networkmanager.link_flap import flap
from guestagent.guest.state.atomic_file import write_whole

NOTICE_TIMEOUT_S = 3.0
"""Longest wait of one call. The agent repeats the call."""
_HINT = "look at `nmcli device` and `journalctl -u NetworkManager`; the agent tries again"
_BUS_NAME = "org.freedesktop.NetworkManager"
_OBJECTS = "/org/freedesktop/NetworkManager"
_PRESERVE_EXTERNAL_IP = "1"
_PREPARE = 40
"""NM_DEVICE_STATE_PREPARE: from this state on a device accepts Reapply."""


class Service:
    """The running service. Requests raise PeerError if it fails or does not answer."""

    def __init__(
        self, clock: Clock = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep

    def reload_profiles(self) -> None:
        """Make it read its keyfiles."""
        _nmcli("connection", "reload")

    def unmanage(self, device: str) -> None:
        """Make it leave a device alone, which keeps its addresses."""
        _nmcli("device", "set", device, "managed", "no")

    def manage_as_found(self, nic: str, note: Path) -> None:
        """Make it manage a NIC as externally configured: it activates nothing there.

        Automatic activation is off meanwhile. ``note`` exists while the agent has switched it
        off, so that a repeated call restores what the user has chosen. Raises OSError.
        """
        if not note.exists() and _autoconnects(nic):
            write_whole(note, "", mode=0o600)
        _nmcli("device", "set", nic, "autoconnect", "no", "managed", "yes")
        if _is_active(self._wait_until_active(nic, notify=True)) and note.exists():
            _nmcli("device", "set", nic, "autoconnect", "yes")
            note.unlink()

    def wait_until_noticed(self, device: str) -> None:
        """Wait until it has noticed a device. Raises DeadlineError."""
        state = self._wait_until_active(device)
        if not state[:1].isdigit() or int(state.split()[0]) < _PREPARE:
            raise DeadlineError(
                f"NetworkManager has not taken notice of {device}: its state is {state.strip()}",
                hint=_HINT,
            )

    def reapply(self, device: str, profile: str, path: Path) -> None:
        """Give a running device the addressing of a profile; its addresses stay.

        The settings are those of the profile as NetworkManager reads it: the profile is loaded
        from ``path`` for this call, marked as never to be activated, and removed after it. Raises
        OSError.
        """
        identity = value_of(parse(profile), "connection", "uuid") or ""
        write_whole(path, bond_profile.inactive(profile), mode=0o600)
        try:
            _nmcli("connection", "load", str(path))
            (device_path,) = _call("", "", "GetDeviceByIpIface", "s", device)
            (loaded,) = _call("/Settings", ".Settings", "GetConnectionByUuid", "s", identity)
            (wanted,) = _call(loaded, ".Settings.Connection", "GetSettings")
            applied, _ = _call(device_path, ".Device", "GetAppliedConnection", "u", "0")
            settings = bond_profile.applied_settings(applied, wanted)
            words = busctl.words("a{sa{sv}}", settings)
            arguments = ("a{sa{sv}}tu", *words, "0", _PRESERVE_EXTERNAL_IP)
            _call(device_path, ".Device", "Reapply", *arguments)
        finally:
            path.unlink(missing_ok=True)
            self.reload_profiles()

    def _wait_until_active(self, device: str, *, notify: bool = False) -> str:
        """Wait until a device is active, in bounds, and return its state.

        With ``notify`` the kernel announces the device again and again: before 1.44
        NetworkManager looks at a NIC only when its link changes.
        """
        deadline = Deadline.after(NOTICE_TIMEOUT_S, self._clock)
        while True:
            state = _nmcli("-g", "GENERAL.STATE", "device", "show", device)
            if _is_active(state) or deadline.expired:
                return state
            if notify:
                flap(device)
            self._sleep(0.05)


def _nmcli(*arguments: str) -> str:
    return run_command("nmcli", *arguments, hint=_HINT)


def _call(path: str, interface: str, method: str, *arguments: str) -> list[Any]:
    """Call a method of an object, which is named by its path or by the end of it."""
    path = f"{_OBJECTS}{path.removeprefix(_OBJECTS)}"
    return busctl.call(_BUS_NAME, path, interface, method, *arguments, hint=_HINT)


def _autoconnects(nic: str) -> bool:
    return _nmcli("-g", "GENERAL.AUTOCONNECT", "device", "show", nic).strip() != "no"


def _is_active(state: str) -> bool:
    """Whether a state is NM_DEVICE_STATE_ACTIVATED, "100 (connected)"."""
    return state.startswith("100")
