"""udev's events about NICs, and its database.

The truth is in rtnetlink and sysfs: udev may fail to rename a NIC and then keeps no properties of
it, while its database still calls it initialised.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any


class UdevDatabase:
    """udev's records of NICs. Each instance belongs to one thread."""

    @cached_property
    def _context(self) -> Any:
        # Loaded at the first query: the boot path makes none.
        import pyudev

        return pyudev.Context()

    def finished_with(self, name: str) -> bool:
        """Whether udev has processed a NIC, including its renaming; False if it is gone."""
        device = self._device(name)
        return device is not None and bool(device.is_initialized)

    def properties(self, name: str) -> dict[str, str]:
        """Return udev's properties of a NIC, none if it is gone."""
        device = self._device(name)
        return dict(device.properties) if device is not None else {}

    def _device(self, name: str) -> Any:
        import pyudev

        try:
            return pyudev.Devices.from_name(self._context, "net", name)
        except pyudev.DeviceNotFoundError:
            return None


class UdevEvents:
    """A socket that becomes readable when udev has processed a NIC or a virtio-serial port.

    It is drained without waiting, and without a thread of the library. A pyudev monitor never
    works again after an overflow (github.com/pyudev/pyudev issue 194): ``drain`` then opens a new
    one, so read ``fileno`` again after it.
    """

    def __init__(self) -> None:
        self._monitor = self._open()

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        return int(self._monitor.fileno())

    def drain(self) -> None:
        """Take all pending events; they only mark the observation as stale."""
        try:
            while self._monitor.poll(timeout=0) is not None:
                pass
        except OSError:
            self._monitor = self._open()

    def _open(self) -> Any:
        import pyudev

        monitor = pyudev.Monitor.from_netlink(pyudev.Context())
        monitor.filter_by("net")
        monitor.filter_by("virtio-ports")
        monitor.start()
        return monitor
