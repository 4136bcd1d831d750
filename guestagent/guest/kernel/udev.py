"""udev: a hint when a NIC comes, and its word that it has finished with one.

The truth is rtnetlink and sysfs. udev may fail to rename a NIC and then keeps
no properties of it, while its database still calls it initialised.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any


class UdevDatabase:
    """What udev knows of NICs. Each instance belongs to one thread."""

    @cached_property
    def _context(self) -> Any:
        # Loaded at the first question: at boot, where time counts, none is asked.
        import pyudev

        return pyudev.Context()

    def finished_with(self, name: str) -> bool:
        """Whether udev has processed a NIC, its renaming included; False when it is gone."""
        device = self._device(name)
        return device is not None and bool(device.is_initialized)

    def properties(self, name: str) -> dict[str, str]:
        """Return what udev knows of a NIC, empty when it is gone."""
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

    It is drained without waiting, never by a thread of the library's own. An
    overflow wedges a pyudev monitor for ever (github.com/pyudev/pyudev issue
    194): ``drain`` then opens a new one, so ask ``fileno`` again after it.
    """

    def __init__(self) -> None:
        self._monitor = self._open()

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        return int(self._monitor.fileno())

    def drain(self) -> None:
        """Take all pending events; they only say that something changed."""
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
