"""A root shell in a guest that has a virtio NIC and a VF."""

from __future__ import annotations

from lab.base.paths import LOGS
from lab.image.build import ensure_image
from lab.machine.machine import Machine
from lab.machine.setup import NicPair, Setup
from lab.network.wires import Network

HELP = """\
The guest's serial console follows; root is logged in. The peer is 198.18.0.1 and 2001:db8::1.
QEMU's keys: Ctrl-a x ends it, Ctrl-a c switches to its monitor (device_del vf0) and back.
In another terminal: {sockets} has QMP and agent sockets.
"""


def main() -> int:
    """Boot the guest, connect the terminal to its console, return when the guest is off."""
    image = ensure_image()
    setup = Setup(pairs=(NicPair(vf_at_boot=True),))
    logs = LOGS / "shell"
    with (
        Network() as network,
        Machine(image=image, network=network, setup=setup, logs=logs, console=True) as machine,
    ):
        print(HELP.format(sockets=machine.directory), flush=True)
        machine.wait_exit()
    return 0
