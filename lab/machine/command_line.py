"""QEMU's command line for a guest of the lab, the same wherever that QEMU runs. Pure.

A state that was saved by one QEMU is loaded by another one only if both have the same devices, so
they are named in one place. The sockets and wires behind them may differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lab.machine.setup import Setup

# Socket by its name, and the name of the guest's virtio-serial port behind it.
SERIAL_PORTS = {
    "commands": "lab.commands.0",
    "qga": "org.qemu.guest_agent.0",
    "agent": "org.guestagent.0",
}
MONITORS = ("qmp-lab", "qmp-host")


@dataclass(frozen=True, slots=True, kw_only=True)
class BootFiles:
    """Where the files are on the machine that QEMU runs on."""

    kernel: str
    initrd: str
    disk: str
    """A qcow2 overlay on the image."""


def serial_ports(setup: Setup) -> dict[str, str]:
    """Return the virtio-serial ports of a guest: ``SERIAL_PORTS``, and one for each relay."""
    return SERIAL_PORTS | {name: f"lab.{name}" for name in setup.relays}


def command_line(
    setup: Setup,
    files: BootFiles,
    *,
    accelerator: Iterable[str],
    netdevs: Iterable[str],
    chardevs: Mapping[str, str],
    awaits_state: bool,
) -> list[str]:
    """Return the arguments; ``chardevs`` are for ``serial``, ``serial_ports`` and ``MONITORS``.

    ``netdevs`` have the names of ``Setup.netdevs``. A guest that ``awaits_state`` has no VF yet.
    """
    argv = [
        *("qemu-system-x86_64", "-name", setup.name, "-nodefaults", "-no-user-config"),
        *accelerator,
        *setup.qemu_arguments(with_vfs=not awaits_state),
        *("-kernel", files.kernel, "-initrd", files.initrd),
        *("-append", setup.kernel_arguments),
        *("-drive", f"id=disk,if=none,file={files.disk},format=qcow2,cache=unsafe"),
        *("-device", "virtio-blk-pci,drive=disk"),
        *("-device", "virtio-rng-pci", "-device", "virtio-serial-pci"),
        *("-display", "none", "-serial", "chardev:serial"),
    ]
    for number, path in enumerate(setup.disks):
        argv += ["-drive", f"id=disk{number},if=none,file={path},format=raw,readonly=on"]
        argv += ["-device", f"virtio-blk-pci,drive=disk{number}"]
    for name, port in serial_ports(setup).items():
        argv += ["-device", f"virtserialport,chardev={name},name={port}"]
    for name in MONITORS:
        argv += ["-mon", f"chardev={name},mode=control"]
    for netdev in netdevs:
        argv += ["-netdev", netdev]
    for chardev in chardevs.values():
        argv += ["-chardev", chardev]
    if awaits_state:
        argv += ["-incoming", "defer"]
    return argv
