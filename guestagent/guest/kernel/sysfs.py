"""The device behind a link, from sysfs."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from guestagent.guest.core.link import Link

SYS_CLASS_NET = Path("/sys/class/net")
_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_VIRTIO_NET_F_STANDBY = 62
_PAGE_BYTES = 4096


def with_device(link: Link, root: Path = SYS_CLASS_NET) -> Link:
    """Add the device to a link; a link that has a kind, vanished or was renamed stays as it is.

    The ifindex is compared because sysfs identifies links by name only. The feature
    bits of a virtio device are a string of 0 and 1 from bit 0 on
    (K: drivers/virtio/virtio.c, features_show (6.12)); VIRTIO_NET_F_STANDBY is
    what binds a NIC to net_failover (K: drivers/net/virtio_net.c, virtnet_probe).
    """
    if link.kind is not None:
        return link
    # Called for every NIC at every event; pathlib takes five times as long.
    directory = f"{root}/{link.name}"
    try:
        path = os.readlink(directory)  # noqa: PTH115
        _, _, driver = os.readlink(f"{directory}/device/driver").rpartition("/")  # noqa: PTH115
        bits = read(f"{directory}/device/features") if driver == "virtio_net" else ""
        if int(read(f"{directory}/ifindex")) != link.ifindex:
            return link
    except OSError:
        return link
    addresses = [part for part in path.split("/") if _PCI_ADDRESS.fullmatch(part)]
    return replace(
        link,
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
