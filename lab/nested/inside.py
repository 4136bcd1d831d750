"""A QEMU on a host that is itself a guest, and the guest in it."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

from lab.base.process import run
from lab.base.runs import make_directory
from lab.image import seed
from lab.image.build import Image
from lab.machine.accelerator import KVM
from lab.machine.command_line import MONITORS, SERIAL_PORTS, BootFiles, command_line
from lab.machine.commands import Commands, connected
from lab.machine.guest import CommandGuest
from lab.machine.machine import Machine
from lab.machine.monitor import Json, Monitor
from lab.machine.setup import Setup

SLOTS = ("a", "b")
BOOT_DISK_MIB = 128
_RELAYED = ("commands", "qmp-lab")

_UNHURRIED = "[Service]\nWatchdogSec=0\nTimeoutStartSec=10min\n"
INSIDE = Setup(
    name="inside",
    memory_mib=400,
    cpus=1,
    more_kernel_arguments="tsc=reliable nowatchdog rcupdate.rcu_cpu_stall_suppress=1 "
    "systemd.mask=qemu-guest-agent.service systemd.mask=getty@tty1.service",
    # A guest that is emulated with its host is late, and must not take that for a failure.
    files={"etc/systemd/system/service.d/90-lab.conf": _UNHURRIED},
)

# The status, asked on the agent's own port: nothing has to be started in the guest for it.
_ASK = """
import json, socket, sys
port = socket.socket(socket.AF_UNIX)
port.settimeout(20)
port.connect(sys.argv[1])
port.sendall(b'{"v": 1, "id": 7, "request": "status"}\\n')
for line in port.makefile("rb"):
    if json.loads(line).get("id") == 7:
        sys.exit(print(line.decode()))
sys.exit(1)
"""


def relays_of(slot: str) -> tuple[str, ...]:
    """Return the ports of the host through which the sockets of a QEMU are reached."""
    return tuple(f"{slot}-{name}" for name in _RELAYED)


def write_boot_disk(image: Image) -> Path:
    """Write what a guest inside boots from, as a disk of its host, and return it.

    It has ``vmlinuz``, ``initrd``, and ``disk.qcow2``, an empty overlay on the image, which is
    the host's /dev/vdb: the host has no tool to make one.
    """
    directory = make_directory()
    files = directory / "files"
    files.mkdir()
    seed.write_initrd(files / "initrd", image_initrd=image.initrd, files=INSIDE.all_files())
    (files / "vmlinuz").write_bytes(image.kernel.read_bytes())
    overlay = ("-f", "qcow2", "-u", "-b", "/dev/vdb", "-F", "raw")
    run("qemu-img", "create", "-q", *overlay, files / "disk.qcow2", str(image.disk.stat().st_size))
    disk = directory / "boot.raw"
    run("mkfs.ext4", "-q", "-d", files, disk, f"{BOOT_DISK_MIB}M")
    return disk


class Inside(CommandGuest):
    """One QEMU, which runs as a unit of the host: its guest boots, or it awaits one.

    Its standby's host end is a macvtap of the slot's name on ``pf``. ``directory`` has, on the
    host, ``qmp-host.sock``, ``agent.sock``, ``qga.sock`` and ``serial.log``.
    """

    patience = 4.0

    def __init__(self, host: Machine, *, slot: str, pf: str, awaits_state: bool) -> None:
        super().__init__(replace(INSIDE, name=f"inside-{slot}", host=slot.upper()))
        self._host = host
        self.slot = slot
        self.directory = f"/run/vm/{slot}"
        self.standby_link = f"mv-{slot}"
        tap = self._make_standby(pf)
        host.run(f"mkdir -p {self.directory}; rm -f {self.directory}/*.sock")
        # Connected before QEMU opens its end, which would be over if nobody were at the other.
        sockets = {name: connected(host.directory / f"{slot}-{name}.sock") for name in _RELAYED}
        argv = shlex.join(self._argv(awaits_state=awaits_state))
        host.run(
            f"systemctl reset-failed vm-{slot} 2>/dev/null || true; test -e /var/tmp/disk.qcow2 ||"
            " cp /inside/disk.qcow2 /var/tmp/disk.qcow2;"
            f"systemd-run --quiet --unit=vm-{slot} --property=LimitMEMLOCK=infinity"
            f" bash -c {shlex.quote(f'exec {argv} 3<>{tap}')}"
        )
        self._commands = Commands(sockets["commands"], name=self.setup.name)
        sockets["qmp-lab"].settimeout(0)
        self._monitor = Monitor(sockets["qmp-lab"], name=self.setup.name)
        self._connected = True

    def close(self) -> None:
        """End QEMU, if it has not ended, and free its slot."""
        if self._connected:
            self._connected = False
            self._commands.close()
            self._monitor.close()
            self._host.run(f"systemctl stop vm-{self.slot}")

    def kill(self) -> None:
        """Have QEMU end as if it had crashed."""
        self._host.run(f"systemctl kill --signal=KILL vm-{self.slot}")

    def qmp(self, command: str, **arguments: Json) -> Json:
        """Run a QMP command; see ``Monitor.execute``."""
        return self._monitor.execute(command, **arguments)

    def status(self) -> Json:
        """Return the answer of the agent inside; None while it does not answer."""
        done = self._host.execute(f"python3 -I -S - {self.directory}/agent.sock", stdin=_ASK)
        return json.loads(done.stdout)["result"] if done.code == 0 else None

    def _make_standby(self, pf: str) -> str:
        """Make the macvtap unless it is there, and return its device."""
        mac = self.setup.pairs[0].mac
        name = self.standby_link
        index = self._host.run(
            f"ip link show {name} >/dev/null 2>&1 || ip link add link {pf} name {name}"
            f" address {mac} type macvtap mode bridge && ip link set {name} up;"
            f"echo 1 >/proc/sys/net/ipv6/conf/{name}/disable_ipv6;"
            f"cat /sys/class/net/{name}/ifindex; udevadm settle"
        ).strip()
        return f"/dev/tap{index}"

    def _argv(self, *, awaits_state: bool) -> list[str]:
        chardevs = {
            name: f"socket,id={name},path={self.directory}/{name}.sock,server=on,wait=off"
            for name in (*SERIAL_PORTS, *MONITORS)
        }
        for name in _RELAYED:
            port = f"/dev/virtio-ports/lab.{self.slot}-{name}"
            chardevs[name] = f"pipe,id={name},path={port}"
        chardevs["serial"] = f"file,id=serial,path={self.directory}/serial.log"
        return command_line(
            self.setup,
            BootFiles(
                kernel="/inside/vmlinuz", initrd="/inside/initrd", disk="/var/tmp/disk.qcow2"
            ),
            accelerator=KVM,
            netdevs=["tap,id=standby0,fd=3"],
            chardevs=chardevs,
            awaits_state=awaits_state,
        )
