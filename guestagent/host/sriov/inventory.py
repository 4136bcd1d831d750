"""The PFs and VFs of this host and their users, from sysfs, rtnetlink, /proc and the leases.

sysfs as in K: Documentation/ABI/testing/sysfs-bus-pci (``sriov_totalvfs``, ``virtfnN``,
``physfn``). A PF whose interface is in another network namespace is left out: nothing can be
programmed through it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from guestagent.host.sriov import vfio
from guestagent.host.sriov.core.model import Inventory, Lease, Pf, Process, Vf, VfState
from guestagent.host.sriov.links import HostLink, LinkError, Links

_BRIDGE_CLASS = 0x06
_HARMLESS = {None, vfio.VFIO, "pci-stub", "pcieport"}
"""Drivers of other devices in a group that vfio accepts (K: drivers/vfio/group.c; drivers with
``driver_managed_dma`` (5.19))."""
_VIRTFN = re.compile(r"virtfn(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Readings:
    """The sources that all PFs and VFs are described from."""

    roots: vfio.Roots
    links: Mapping[str, HostLink]
    leases: Mapping[str, Lease]
    users: Mapping[str, Process]


def read_inventory(roots: vfio.Roots, links: Links, leases: Mapping[str, Lease]) -> Inventory:
    """Return the PFs and VFs; ``leases`` are by the address of the VF.

    Raises LinkError if the kernel does not answer.
    """
    listed = links.links()
    readings = _Readings(
        roots=roots,
        links={link.name: link for link in listed},
        leases=leases,
        users=vfio.users(roots, vfio.VFIO_NODES),
    )
    pfs = []
    devices = roots.sys / "bus/pci/devices"
    for device in sorted(devices.iterdir()) if devices.is_dir() else ():
        total = _number(device / "sriov_totalvfs")
        link = interface_of(device, readings.links)
        if total and link is not None:
            pfs.append(_pf(readings, links, device, link, total))
    return Inventory(pfs=tuple(pfs))


def embedded_switches(roots: vfio.Roots, links: Mapping[str, HostLink]) -> frozenset[int]:
    """Return the ifindexes of the PFs that have VFs, with less to read than an inventory."""
    devices = roots.sys / "bus/pci/devices"
    pfs = [device for device in devices.iterdir() if (device / "virtfn0").exists()]
    found = (interface_of(device, links) for device in pfs)
    return frozenset(link.ifindex for link in found if link is not None)


def interface_of(device: Path, links: Mapping[str, HostLink]) -> HostLink | None:
    """Return the (first) interface of a PCI device, None without one in this namespace."""
    found = sorted(links[name].ifindex for name in _interfaces(device) if name in links)
    return next((link for link in links.values() if found and link.ifindex == found[0]), None)


def virtual_functions(device: Path) -> Mapping[int, str]:
    """Return the addresses of a PF's VFs by their index."""
    found = {}
    for entry in device.iterdir():
        match = _VIRTFN.fullmatch(entry.name)
        if match is not None:
            found[int(match[1])] = entry.resolve().name
    return dict(sorted(found.items()))


def _pf(readings: _Readings, links: Links, device: Path, link: HostLink, total: int) -> Pf:
    functions = virtual_functions(device)
    try:
        states = links.vf_states(link.ifindex) if functions else {}
    except LinkError:
        states = {}  # the interface may have gone since the list was read
    return Pf(
        address=device.name,
        name=link.name,
        names=(*link.names, device.name),
        driver=vfio.driver_of(device),
        up=link.up,
        carrier=link.carrier,
        mtu=link.mtu,
        vfs=tuple(
            _vf(readings, address, index, states.get(index))
            for index, address in functions.items()
        ),
        total_vfs=total,
        vlans=_vlans(readings, links, link),
    )


def _vf(readings: _Readings, address: str, index: int, state: VfState | None) -> Vf:
    device = readings.roots.device(address)
    driver = vfio.driver_of(device)
    nodes = vfio.nodes_of(readings.roots, address)
    return Vf(
        address=address,
        index=index,
        driver=driver,
        iommu_group=vfio.group_of(device),
        state=state,
        lease=readings.leases.get(address),
        user=next(
            (readings.users[node] for node in sorted(nodes) if node in readings.users), None
        ),
        host_use=_host_use(readings, device, driver),
        group_mates=_group_mates(readings, device),
    )


def _host_use(readings: _Readings, device: Path, driver: str | None) -> str | None:
    """Describe the use of a VF by its driver on this host, None for no use.

    An interface that is down is unused: many hosts bind every VF to its network driver at first.
    """
    if driver in _HARMLESS:
        return None
    names = _interfaces(device)
    if not names:
        return f"driver {driver}, whose interface is not here"
    used = [name for name in names if name not in readings.links or readings.links[name].up]
    return f"interface {used[0]} is up" if used else None


def _group_mates(readings: _Readings, device: Path) -> tuple[str, ...]:
    members = device / "iommu_group" / "devices"
    if not members.is_dir():
        return ()
    mates = []
    for mate in sorted(members.iterdir()):
        if mate.name == device.name or _is_bridge(mate):
            continue
        if vfio.driver_of(mate) not in _HARMLESS or mate.name in readings.leases:
            mates.append(mate.name)
    return tuple(mates)


def _vlans(readings: _Readings, links: Links, pf: HostLink) -> frozenset[int] | None:
    upper = next((link for link in readings.links.values() if link.ifindex == pf.upper), None)
    if upper is None or upper.kind != "bridge":
        return None
    if _number(readings.roots.sys / "class/net" / upper.name / "bridge/vlan_filtering") != 1:
        return None
    return links.port_vlans(pf.ifindex)


def _interfaces(device: Path) -> list[str]:
    directory = device / "net"
    return sorted(entry.name for entry in directory.iterdir()) if directory.is_dir() else []


def _is_bridge(device: Path) -> bool:
    return (_number(device / "class") or 0) >> 16 == _BRIDGE_CLASS


def _number(path: Path) -> int | None:
    """Return the number in a sysfs file, None without the file."""
    try:
        return int(path.read_text().strip(), 0)
    except (OSError, ValueError):
        return None
