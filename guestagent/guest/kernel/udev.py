"""udev: a hint when a NIC comes, and its word that it has finished with one.

The truth is rtnetlink and sysfs. udev may fail to rename a NIC and then keeps
no properties of it, while its database still calls it initialised.
"""

from __future__ import annotations

import pyudev


class Udev:
    """The udev database and its event monitor for network devices.

    The monitor's socket is drained without waiting, never by a thread of the
    library's own. An overflow wedges a pyudev monitor for ever
    (github.com/pyudev/pyudev issue 194): ``drain`` then opens a new one, so
    ask ``fileno`` again after each call.
    """

    def __init__(self) -> None:
        self._context = pyudev.Context()
        self._monitor = self._open()

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when an event came."""
        return int(self._monitor.fileno())

    def drain(self) -> None:
        """Take all pending events; they only say that something changed."""
        try:
            while self._monitor.poll(timeout=0) is not None:
                pass
        except OSError:
            self._monitor = self._open()

    def finished_with(self, name: str) -> bool:
        """Whether udev has processed a NIC, its renaming included; False when it is gone."""
        try:
            device = pyudev.Devices.from_name(self._context, "net", name)
        except pyudev.DeviceNotFoundError:
            return False
        return bool(device.is_initialized)

    def properties(self, name: str) -> dict[str, str]:
        """Return what udev knows of a NIC, empty when it is gone."""
        try:
            device = pyudev.Devices.from_name(self._context, "net", name)
        except pyudev.DeviceNotFoundError:
            return {}
        return dict(device.properties)

    def _open(self) -> pyudev.Monitor:
        monitor = pyudev.Monitor.from_netlink(self._context)
        monitor.filter_by("net")
        monitor.start()
        return monitor
