"""A guest that is two hosts: for each a card with VFs, and QEMUs beside the host helper.

::

    namespace peer ── bridge switch ─┬─ bridge hostA ── tap ── PF physA ─┬─ VFs (vfio-pci)
                                     │                                   └─ macvtap of a standby
                                     └─ bridge hostB ── tap ── PF physB ─┬─ VFs
                                                                         └─ macvtap

Hosts A and B share a kernel and a state directory of the helper; what they have of their own is
the card and its wire. The sockets of a QEMU inside are relayed outside through virtio-serial ports
of the guest that it runs in, so that the lab speaks to it as to any other.

The guests inside run under KVM, also where all is emulated: QEMU emulates AMD's processors with
their virtualisation (Q: target/i386/tcg/system/svm_helper.c), so what a guest inside executes is
emulated once and not twice.
"""

from __future__ import annotations

import base64
import json
import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from guestagent.errors import PeerError
from lab.base.paths import PACKAGES
from lab.base.waiting import wait_until
from lab.image.build import Image, ensure_agent_package, ensure_image
from lab.machine.machine import Machine
from lab.machine.monitor import Json
from lab.machine.setup import Setup
from lab.migration import host_helper
from lab.nested.inside import INSIDE, SLOTS, Inside, relays_of, write_boot_disk
from lab.network.wires import Network

PACKAGES_OF_A_HOST = ("qemu-system-x86",)
VFS = 2
VM = "web1"
READY_S = 600.0
ASK_S = 1.0
CLOCK_TRIES = 10
LATE_S = 0.5
"""By how much a guest inside is late to take what has come for it while its memory is copied: what
waits for it in its host when it stops is lost as if it had come then."""
# An emulated host copies memory at a few MiB a second, so the last of it takes seconds.
_LIMITS = """
[timeouts]
command_s = 60
unplug_s = 60
guest_s = 300
[migration]
downtime_limit_ms = 5000
"""
MEMORY_MIB = 2400

# A VF gets its MAC address before a driver asks for it, so no driver is there at first; and there
# is no interrupt remapping here, without which vfio wants to be told that this is known.
_PREPARE = f"""
mkdir -p /inside; mount -o ro /dev/vdc /inside
modprobe -a vfio-pci vfio_iommu_type1 macvtap
modprobe kvm_amd || modprobe kvm_intel || {{
    echo "no KVM in the guest that is the hosts: has this machine's KVM nested=1?" >&2
    exit 1
}}
echo Y >/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts
set -- physA physB
for total in /sys/bus/pci/devices/*/sriov_totalvfs; do
    card=${{total%/*}}
    until ls $card/net/* >/dev/null 2>&1; do udevadm settle; done
    name=$(ls $card/net)
    ip link property add dev $name altname $1
    echo 1 >/proc/sys/net/ipv6/conf/$name/disable_ipv6
    ip link set $name up
    until [ "$(cat $card/net/$name/carrier)" = 1 ]; do sleep 0.1; done
    echo 0 >$card/sriov_drivers_autoprobe
    echo {VFS} >$card/sriov_numvfs
    echo $name
    shift
done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """How far one clock is ahead of another, and how well that is known, in seconds."""

    value_s: float
    uncertain_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """Report of the helper on a migration, as it is and by the clock of this machine."""

    report: Json
    helper: host_helper.Report
    margin_s: float
    """Margin around the downtime in which a loss counts as one of the downtime."""


class Hosts:
    """Hosts A and B in one guest; a context manager.

    :raise PeerError: something in it failed; the text says what.
    """

    def __init__(self, network: Network, *, image: Image, inside: Image, logs: Path) -> None:
        self.network = network
        self._logs = logs
        self._boot_disk = write_boot_disk(inside)
        setup = Setup(
            name="hosts",
            pairs=(),
            pfs=("A", "B"),
            memory_mib=MEMORY_MIB,
            disks=(inside.disk, self._boot_disk),
            relays=tuple(relay for slot in SLOTS for relay in relays_of(slot)),
            emulated=not _nested_kvm(),
            more_kernel_arguments="tsc=reliable nowatchdog systemd.mask=guestagent.service"
            " systemd.mask=guestagent-early.service",
        )
        self.machine = Machine(image=image, network=network, setup=setup, logs=logs)
        self._cleanup = ExitStack()
        self.pfs: dict[str, str] = {}

    @classmethod
    def make(cls, network: Network, *, logs: Path) -> Hosts:
        """Return hosts; the images that they need are made first, unless they are cached."""
        image = ensure_image(packages=PACKAGES_OF_A_HOST)
        return cls(network, image=image, inside=ensure_image(), logs=logs)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, self._boot_disk.parent)
            stack.enter_context(self.machine)
            self.machine.wait_ready()
            ensure_agent_package()
            (package,) = PACKAGES.glob("guestagent-host_*.deb")
            self.machine.run(
                "base64 -d >/run/host.deb && dpkg --install /run/host.deb",
                stdin=base64.b64encode(package.read_bytes()).decode(),
            )
            names = self.machine.run(_PREPARE).split()
            self.pfs = dict(zip(("A", "B"), names, strict=True))
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def start(self, slot: str, *, awaits_state: bool = False) -> Inside:
        """Return a QEMU on host A (``a``) or B (``b``); it ends with the hosts."""
        inside = Inside(
            self.machine, slot=slot, pf=self.pfs[slot.upper()], awaits_state=awaits_state
        )
        self._cleanup.callback(self._end, inside)
        return inside

    def _end(self, inside: Inside) -> None:
        serial = self.machine.execute(f"cat {inside.directory}/serial.log").stdout
        (self._logs / f"{inside.setup.name}-serial.log").write_text(serial)
        inside.close()

    def describe(
        self,
        source: Inside,
        destination: Inside | None = None,
        *,
        sriov: str = "",
        more_migration: str = "",
    ) -> str:
        """Write the description of the VM and return its path.

        ``sriov`` is more for the pair's table of that name without a destination,
        ``more_migration`` for that of the migration.
        """
        lines = [f'name = "{VM}"', *_side("source", source)]
        if destination is not None:
            lines += [*_side("destination", destination), 'uri = "unix:/run/vm/move.sock"']
        pair = INSIDE.pairs[0]
        device = f'driver = "vfio-pci", id = "{pair.vf}", bus = "{pair.vf_port}"'
        lines += ["[[pair]]", f'mac = "{pair.mac}"', f'standby = "{pair.standby}"']
        lines += [f"vf = {{ {device} }}", "[pair.sriov]", *_card(source)]
        if destination is not None:
            lines += ["[pair.destination_sriov]", *_card(destination)]
        path = f"/run/{VM}.toml"
        self.machine.write_file(path, "\n".join([*lines, sriov, _LIMITS, more_migration]))
        return path

    def migrate(self, description: str) -> Migrated:
        """Run ``guestagent-host migrate`` to its end, whatever that is."""
        report = self.helper(f"migrate {description}")
        ahead = self._clock_ahead()
        helper = host_helper.parse(report, report["exit_code"], ahead_s=ahead.value_s)
        return Migrated(report=report, helper=helper, margin_s=ahead.uncertain_s + LATE_S)

    def _clock_ahead(self) -> Ahead:
        """Return by how much the hosts' CLOCK_MONOTONIC is ahead of this machine's."""
        best = Ahead(value_s=0.0, uncertain_s=float("inf"))
        for _ in range(CLOCK_TRIES):
            begin_s = time.monotonic()
            uptime_s = float(self.machine.run("read up _ </proc/uptime; echo $up"))
            end_s = time.monotonic()
            # /proc/uptime has two digits; the hosts never sleep, so it is that clock.
            uncertain_s = (end_s - begin_s) / 2 + 0.01
            if uncertain_s < best.uncertain_s:
                best = Ahead(value_s=uptime_s - (begin_s + end_s) / 2, uncertain_s=uncertain_s)
        return best

    def wait_ready(self, guest: Inside) -> None:
        """Wait until a guest has booted and its agent serves the host."""
        guest.wait_ready(timeout_s=READY_S)
        wait_until("the agent answers", guest.status, timeout_s=READY_S, interval_s=ASK_S)

    def wait_on_vf(self, guest: Inside) -> Json:
        """Wait until the agent says that the guest uses its VF, and return that."""
        return self._wait(guest, "vf")

    def wait_on_standby(self, guest: Inside) -> Json:
        """Wait until the agent says that the guest uses its standby, and return that."""
        return self._wait(guest, "standby")

    def _wait(self, guest: Inside, active: str) -> Json:
        def there() -> Json:
            status = guest.status()
            pairs = status["pairs"] if status else []
            return pairs[0] if pairs and pairs[0]["active"] == active else None

        what = f"the guest is on its {active}"
        return wait_until(what, there, timeout_s=READY_S, interval_s=ASK_S)

    def helper(self, words: str, *, timeout_s: float = READY_S) -> Json:
        """Run a command of the installed helper and return what it reports.

        :raise PeerError: it ended without a report.
        """
        done = self.machine.execute(f"guestagent-host {words} --json", timeout_s=timeout_s)
        with (self._logs / "helper.log").open("a") as log:
            log.write(f"$ {words}\n{done.stdout}{done.stderr}")
        if not done.stdout.strip():
            raise PeerError(f"guestagent-host {words}: no report, but: {done.stderr}")
        return json.loads(done.stdout)


def _nested_kvm() -> bool:
    """Whether a guest under this machine's KVM can have guests under KVM."""
    parameters = Path("/sys/module").glob("kvm_*/parameters/nested")
    return any(path.read_text().strip() in {"1", "Y"} for path in parameters)


def _card(side: Inside) -> tuple[str, str]:
    return f'pf = "phys{side.slot.upper()}"', f'standby_link = "{side.standby_link}"'


def _side(name: str, qemu: Inside) -> list[str]:
    sockets = {"qmp": "qmp-host", "agent": "agent"}
    return [
        f"[{name}]",
        *(f'{key} = "{qemu.directory}/{file}.sock"' for key, file in sockets.items()),
    ]
