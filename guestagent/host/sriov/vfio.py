"""Binds VFs to drivers (vfio-pci for a guest), and finds the processes that have one open.

A VF is bound through ``driver_override`` and ``drivers_probe``. This works with
``sriov_drivers_autoprobe`` off too, and touches no other device with the same IDs
(K: drivers/pci/pci-sysfs.c, driver_override; Documentation/ABI/testing/sysfs-bus-pci).
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from guestagent.clock import Clock, Deadline, Sleep
from guestagent.errors import DeadlineError, SystemLacksError
from guestagent.host.sriov.core.model import Process
from guestagent.host.sriov.processes import open_files, pids

VFIO = "vfio-pci"
VFIO_NODES = "/dev/vfio/"
BIND_TIMEOUT_S = 10.0
POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """Mount points of the kernel's file systems; tests have others."""

    sys: Path = Path("/sys")
    dev: Path = Path("/dev")
    proc: Path = Path("/proc")

    def device(self, address: str) -> Path:
        """Return a PCI device's directory."""
        return self.sys / "bus/pci/devices" / address


def load_module(name: str) -> None:
    """Load a kernel module. Raises SystemLacksError."""
    try:
        done = subprocess.run(
            ["modprobe", name], check=False, capture_output=True, text=True, timeout=BIND_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SystemLacksError(f"modprobe {name}: {error}") from error
    if done.returncode != 0:
        raise SystemLacksError(
            f"modprobe {name}: {done.stderr.strip() or done.returncode}",
            hint="install the kernel's modules for VFIO; run as root",
        )


def write_attribute(path: Path, text: str) -> None:
    """Write a file of sysfs. Raises SystemLacksError."""
    try:
        path.write_text(text)
    except OSError as error:
        raise SystemLacksError(
            f"{path}: {error.strerror} when writing {text.strip()!r}",
            hint="run as root; see the kernel's messages: journalctl -k",
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Vfio:
    """Binds VFs to drivers and waits for the processes that have them."""

    roots: Roots = Roots()
    clock: Clock = time.monotonic
    sleep: Sleep = time.sleep
    load: Callable[[str], None] = load_module
    write: Callable[[Path, str], None] = write_attribute

    def driver(self, vf: str) -> str | None:
        """Return the driver of a VF, None without one."""
        return driver_of(self.roots.device(vf))

    def override(self, vf: str) -> str | None:
        """Return the driver_override of a VF; the kernel prints none as (null)."""
        try:
            text = (self.roots.device(vf) / "driver_override").read_text().strip()
        except OSError:
            return None
        return None if text in {"", "(null)"} else text

    def unbind(self, vf: str) -> None:
        """Unbind a VF from its driver, if any. Raises SystemLacksError."""
        link = self.roots.device(vf) / "driver"
        if link.exists():
            self.write(link / "unbind", vf)

    def bind(self, vf: str, driver: str | None, override: str | None) -> None:
        """Bind a VF to a driver (None: to none), and set its driver_override afterwards.

        Raises SystemLacksError if the driver is missing or does not accept the VF.
        """
        device = self.roots.device(vf)
        if self.driver(vf) != driver:
            self.unbind(vf)
            if driver is not None:
                self._probe(vf, device, driver)
        if self.override(vf) != override:
            self.write(device / "driver_override", override or "\n")

    def _probe(self, vf: str, device: Path, driver: str) -> None:
        if not (self.roots.sys / "bus/pci/drivers" / driver).exists():
            self.load(driver)
        self.write(device / "driver_override", driver)
        self.write(self.roots.sys / "bus/pci/drivers_probe", vf)
        deadline = Deadline.after(BIND_TIMEOUT_S, self.clock)
        while self.driver(vf) != driver:
            if deadline.expired:
                raise SystemLacksError(
                    f"{vf}: not bound to {driver} after {BIND_TIMEOUT_S:g} s,"
                    f" but to {self.driver(vf) or 'no driver'}",
                    hint=f"see the kernel's messages: journalctl -k | grep {vf}",
                )
            self.sleep(POLL_S)

    def wait_closed(self, vf: str, timeout_s: float) -> None:
        """Wait until no process has the VF open.

        QEMU sends DEVICE_DELETED before it has closed the device. Raises DeadlineError, which
        names the process.
        """
        deadline = Deadline.after(timeout_s, self.clock)
        while (user := self.user(vf)) is not None:
            if deadline.expired:
                raise DeadlineError(
                    f"{vf}: {user} still has it open after {timeout_s:g} s",
                    hint="unplug it from the guest first (guestagent-host detach) or end that"
                    " process; vf release --wait 30 waits for an unplug under way",
                )
            self.sleep(POLL_S)

    def user(self, vf: str) -> Process | None:
        """Return the process that has a VF open, None without one."""
        nodes = nodes_of(self.roots, vf)
        found = (
            process for node, process in users(self.roots, VFIO_NODES).items() if node in nodes
        )
        return next(found, None)


def driver_of(device: Path) -> str | None:
    """Return the driver of a PCI device, None without one."""
    link = device / "driver"
    return link.resolve().name if link.exists() else None


def group_of(device: Path) -> int | None:
    """Return the IOMMU group of a PCI device, None without an IOMMU."""
    link = device / "iommu_group"
    return int(link.resolve().name) if link.exists() else None


def nodes_of(roots: Roots, vf: str) -> frozenset[str]:
    """Return the device files through which a process can hold a VF.

    The group's is the older interface, ``devices/vfioN`` that of iommufd
    (K: drivers/vfio/device_cdev.c (6.6)).
    """
    device = roots.device(vf)
    group = group_of(device)
    nodes = {f"/dev/vfio/{group}"} if group is not None else set()
    cdevs = device / "vfio-dev"
    if cdevs.is_dir():
        nodes |= {f"/dev/vfio/devices/{entry.name}" for entry in cdevs.iterdir()}
    return frozenset(nodes)


def users(roots: Roots, beginning: str) -> Mapping[str, Process]:
    """Return the process that has each device file open, of files with this beginning."""
    found: dict[str, Process] = {}
    for pid in pids(roots.proc):
        nodes = {node for node in open_files(roots.proc, pid) if node.startswith(beginning)}
        for node in nodes - found.keys():
            found[node] = Process(pid=pid, name=_name(roots.proc / str(pid)))
    return found


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "?"
