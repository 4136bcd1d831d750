"""Output of ``inspect``: the NICs of a guest, their guest PCI addresses, and free ports."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from guestagent.errors import PeerError, UnknownOutcomeError
from guestagent.host.hypervisor.base import Hypervisor
from guestagent.host.hypervisor.guest.qga import QemuGuestAgent
from guestagent.host.model import End, GuestInterface, PciDevice, PciPort, QemuState, Topology, Vm
from guestagent.host.report.document import document, select

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """The answers of one QEMU about its guest; ``interfaces`` are claims of the guest."""

    vm: Vm
    view: QemuState
    topology: Topology
    interfaces: tuple[GuestInterface, ...]


async def inspect(vm: Vm, hypervisor: Hypervisor, guest: QemuGuestAgent | None) -> Inspection:
    """Query one QEMU; a guest that does not answer is only a warning.

    Raises PeerError when QEMU does not answer.
    """
    view = await hypervisor.look()
    if view.unreachable is not None:
        raise PeerError(str(view), hint="see whether the VM runs and its socket is right")
    topology = await hypervisor.topology()
    interfaces: tuple[GuestInterface, ...] = ()
    if guest is not None and view.running:
        try:
            interfaces = await guest.interfaces()
        except (PeerError, UnknownOutcomeError) as error:
            log.warning("%s, so the guest's interface names are not shown", error)
    return Inspection(vm=vm, view=view, topology=topology, interfaces=interfaces)


def _role(vm: Vm, end: End, device: PciDevice) -> str | None:
    if device.id is not None and device.id in {pair.standby for pair in vm.pairs}:
        return "standby"
    return "vf" if device.id in _vf_macs(vm, end) else None


def _mac(vm: Vm, end: End, device: PciDevice) -> str | None:
    """Return the MAC; a passed-through VF shows none in QEMU, so its pair's is taken."""
    return _vf_macs(vm, end).get(device.id) if device.mac is None else device.mac


def _vf_macs(vm: Vm, end: End) -> dict[str | None, str]:
    """Return the MAC of each pair by the id of its VF."""
    return {vf.id: pair.mac for pair in vm.pairs if (vf := pair.vf_on(end)) is not None}


def _names(inspection: Inspection, mac: str | None) -> list[str]:
    return [known.name for known in inspection.interfaces if mac and known.mac == mac]


def as_json(inspection: Inspection) -> str:
    """Return the inspection for programs."""
    vm, end = inspection.vm, inspection.view.end
    return document(
        command="inspect",
        vm=vm.name,
        side=end,
        status=inspection.view.run_state,
        nics=[
            {
                **select(nic, "id", "driver"),
                "mac": (mac := _mac(vm, end, nic)),
                **select(nic, "address", "port"),
                "role": _role(vm, end, nic),
                "guest_interfaces": _names(inspection, mac),
            }
            for nic in inspection.topology.devices
            if nic.is_nic
        ],
        ports=[
            {
                **select(port, "id", "address"),
                "free_address": None if port.device else port.slot_address,
                **select(port, "device", "hotplug"),
            }
            for port in inspection.topology.ports
        ],
        devices=[
            select(device, "id", "driver", "address", "description")
            for device in inspection.topology.devices
        ],
    )


def as_text(inspection: Inspection) -> str:
    """Return the inspection for people: three tables."""
    vm, end = inspection.vm, inspection.view.end
    nics = [
        (
            nic.address or "-",
            nic.id or "-",
            _mac(vm, end, nic) or "-",
            nic.driver or nic.description,
            nic.port or "-",
            _role(vm, end, nic) or "-",
            " ".join(_names(inspection, _mac(vm, end, nic))) or "-",
        )
        for nic in inspection.topology.devices
        if nic.is_nic
    ]
    ports = [(port.id, port.address, _occupation(port)) for port in inspection.topology.ports]
    devices = [
        (device.address or "-", device.id or "-", device.driver or device.description)
        for device in inspection.topology.devices
    ]
    return "\n".join(
        (
            f"{vm.name} at {end}: guest {inspection.view.run_state}",
            "",
            *_table(("NIC", "id", "MAC", "driver", "port", "role", "in the guest"), nics),
            "",
            *_table(("port", "address", "used by"), ports),
            "",
            *_table(("address in use", "id", "device"), devices),
        )
    )


def _occupation(port: PciPort) -> str:
    if port.device is not None:
        return port.device
    if not port.hotplug:
        return "empty, no hot-plug"
    return f"free: {port.slot_address or 'no address before the firmware ran'}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, *rows]
    ]
