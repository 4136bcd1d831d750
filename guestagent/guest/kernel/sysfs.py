"""The device behind a link, from sysfs."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

SYS_CLASS_NET = Path("/sys/class/net")
_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_VIRTIO_NET_F_STANDBY = 62
_PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """The device behind a link; all empty for a virtual one."""

    driver: str | None = None
    bus_address: str | None = None
    net_failover: bool = False


def device_facts(name: str, ifindex: int, root: Path = SYS_CLASS_NET) -> DeviceFacts:
    """Return the device behind a link; an empty one if the link vanished or was renamed.

    The ifindex is compared because sysfs identifies links by name only. The feature
    bits of a virtio device are a string of 0 and 1 from bit 0 on
    (K: drivers/virtio/virtio.c, features_show (6.12)); VIRTIO_NET_F_STANDBY is
    what binds a NIC to net_failover (K: drivers/net/virtio_net.c, virtnet_probe).
    """
    # Called for every NIC at every event; pathlib takes five times as long.
    link = f"{root}/{name}"
    try:
        path = os.readlink(link)  # noqa: PTH115
        _, _, driver = os.readlink(f"{link}/device/driver").rpartition("/")  # noqa: PTH115
        bits = read(f"{link}/device/features") if driver == "virtio_net" else ""
        if int(read(f"{link}/ifindex")) != ifindex:
            return DeviceFacts()
    except OSError:
        return DeviceFacts()
    addresses = [part for part in path.split("/") if _PCI_ADDRESS.fullmatch(part)]
    return DeviceFacts(
        driver=driver,
        bus_address=addresses[-1] if addresses else None,
        net_failover=bits[_VIRTIO_NET_F_STANDBY : _VIRTIO_NET_F_STANDBY + 1] == "1",
    )


def lost_carriers(name: str, root: Path = SYS_CLASS_NET) -> int | None:
    """Count the losses of carrier of a port since it joined its bond; None for another link.

    K: drivers/net/bonding/bond_sysfs_slave.c, link_failure_count (6.12).
    """
    return read_number(root / name / "bonding_slave" / "link_failure_count")


def read_number(path: Path) -> int | None:
    """Return the number in a file of the kernel; None without the file or a number in it."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def read(path: str) -> str:
    """Return an attribute, which the first read returns completely. Raises OSError.

    Without open() and pathlib, which take several times as long for the many files of a NIC.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _PAGE_BYTES).decode()
    finally:
        os.close(descriptor)
