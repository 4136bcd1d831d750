"""A real QEMU with firmware, ports and a standby NIC, and no guest system: up in 0.1 s.

With native hot-plug a slot that no guest has powered gives its device back at
once (Q: hw/pci/pcie.c, pcie_cap_slot_unplug_request_cb); with ACPI hot-plug
nobody ever answers.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

NATIVE = ("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off")


@contextlib.contextmanager
def bare_qemu(
    path: Path, *, incoming: bool = False, releases: bool = True
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a QEMU whose QMP socket is ``path``; ``releases`` says what becomes of device_del."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)
    argv = [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-accel", "tcg", "-m", "32"),
        *("-machine", "q35", "-display", "none", *(NATIVE if releases else ())),
        *("-device", "pcie-root-port,id=rp1,chassis=1,slot=1"),
        *("-device", "pcie-root-port,id=rp2,chassis=2,slot=2"),
        *("-device", "pcie-root-port,id=rp3,chassis=3,slot=3,hotplug=off"),
        *("-netdev", "hubport,id=standby,hubid=1", "-netdev", "hubport,id=vf,hubid=1"),
        *("-device", "virtio-net-pci,id=net0,netdev=standby,bus=rp1,mac=52:54:00:aa:00:01"),
        *("-chardev", f"socket,id=qmp,fd={listener.fileno()},server=on,wait=off"),
        *("-mon", "chardev=qmp,mode=control"),
        *(("-incoming", "defer") if incoming else ()),
    ]
    with path.with_suffix(".log").open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[listener.fileno()],
        )
    listener.close()
    try:
        yield process
    finally:
        process.kill()
        process.wait()
