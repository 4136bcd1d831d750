"""A host with SR-IOV in a directory: sysfs, /proc and what PFs say of their VFs.

Everything that changes is a file below the root, so several processes on one root
are several helpers on one host. What the kernel does when an attribute of a driver
is written, ``write`` does.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from guestagent.host.sriov.core.model import LinkState, PortProfile, VfState, VlanProtocol
from guestagent.host.sriov.core.values import Carrier, Mac, Rate, SpoofCheck, Trust, Value, VlanTag
from guestagent.host.sriov.links import FdbEntry, HostLink, LinkError, PortResponse
from guestagent.host.sriov.pool import Pool
from guestagent.host.sriov.vfio import Roots, Vfio
from tests.fakes.sriov import CLEAN

DRIVERS = ("vfio-pci", "igbvf", "igb")


def pf_address(number: int) -> str:
    """Return the address of the PF ``pf<number>``."""
    return f"0000:{number + 1:02x}:00.0"


def vf_address(number: int, index: int) -> str:
    """Return the address of a VF of that PF."""
    return f"0000:{number + 1:02x}:{16 + index // 4:02x}.{index % 4 * 2 % 8}"


class FakeClock:
    """Monotonic time that ``sleep`` moves on; other processes get the processor meanwhile."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, duration_s: float) -> None:
        """Let time pass."""
        self.now_s += duration_s
        os.sched_yield()


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeHost:
    """A host below ``root``, made by ``build``; ``others`` are interfaces besides the PFs."""

    root: Path
    pfs: int = 1
    vfs: int = 2
    others: tuple[HostLink, ...] = ()

    @property
    def roots(self) -> Roots:
        """Where the kernel's file systems are."""
        return Roots(sys=self.root / "sys", dev=self.root / "dev", proc=self.root / "proc")

    def build(self) -> FakeHost:
        """Make the tree: PFs driven by igb, VFs without a driver, a group for each."""
        for driver in DRIVERS:
            (self.root / "sys/bus/pci/drivers" / driver).mkdir(parents=True)
        (self.root / "proc").mkdir()
        for number in range(self.pfs):
            pf = self._device(pf_address(number), group=number, driver="igb")
            (pf / "sriov_totalvfs").write_text("8\n")
            (pf / "net" / f"pf{number}").mkdir(parents=True)
            for index in range(self.vfs):
                group = 100 * (number + 1) + index
                vf = self._device(vf_address(number, index), group=group, driver=None)
                (pf / f"virtfn{index}").symlink_to(vf)
        return self

    def links(self) -> FakeLinks:
        """Return the links of this host."""
        return FakeLinks(host=self)

    def vfio(self) -> Vfio:
        """Return the binder of the VFs of this host; its clock advances with each wait."""
        clock = FakeClock()
        return Vfio(
            roots=self.roots,
            write=self.write,
            clock=clock,
            sleep=clock.sleep,
            load=lambda _name: None,
        )

    def pool(self, links: FakeLinks | None = None) -> Pool:
        """Return a pool whose time passes by being waited for."""
        clock = FakeClock()
        return Pool(
            self.root / "vfs",
            links or self.links(),
            vfio=self.vfio(),
            clock=clock,
            sleep=clock.sleep,
            close_timeout_s=0,
        )

    def driver(self, address: str) -> str | None:
        """Return the driver of a device."""
        return self.vfio().driver(address)

    def bind(self, address: str, driver: str | None) -> None:
        """Have a driver have a device, as if it had always had it."""
        link = self.roots.device(address) / "driver"
        link.unlink(missing_ok=True)
        if driver is not None:
            link.symlink_to(self.root / "sys/bus/pci/drivers" / driver)

    def remove_driver(self, driver: str) -> None:
        """Have a driver be known no more."""
        (self.root / "sys/bus/pci/drivers" / driver).rmdir()

    def give_interface(self, address: str, name: str) -> None:
        """Have a driver make an interface of a device; whether it is up, ``links`` say."""
        self.bind(address, "igbvf")
        (self.roots.device(address) / "net" / name).mkdir(parents=True)

    def share_group(self, address: str, other: str) -> None:
        """Put one device into the group of another."""
        group = (self.roots.device(other) / "iommu_group").resolve()
        (group / "devices" / address).symlink_to(self.roots.device(address))
        link = self.roots.device(address) / "iommu_group"
        link.unlink()
        link.symlink_to(group)

    def open_by(self, address: str, pid: int, name: str) -> None:
        """Have a process have a VF open."""
        group = (self.roots.device(address) / "iommu_group").resolve().name
        process = self.root / "proc" / str(pid)
        (process / "fd").mkdir(parents=True)
        (process / "comm").write_text(f"{name}\n")
        (process / "fd" / "7").symlink_to(f"/dev/vfio/{group}")

    def close_by(self, pid: int) -> None:
        """End that process's hold."""
        (self.root / "proc" / str(pid) / "fd" / "7").unlink()

    def write(self, path: Path, text: str) -> None:
        """Do what the kernel does when an attribute is written."""
        if path.name == "driver_override":
            path.write_text(text.strip() or "(null)")
        elif path.name == "unbind":
            self.bind(text, None)
        elif path.name == "drivers_probe":
            override = self.vfio().override(text)
            known = self.root / "sys/bus/pci/drivers" / (override or "none")
            if self.driver(text) is None and known.exists():
                self.bind(text, override)
        else:
            raise AssertionError(f"nothing is known of {path}")

    def _device(self, address: str, *, group: int, driver: str | None) -> Path:
        device = self.roots.device(address)
        device.mkdir(parents=True)
        (device / "driver_override").write_text("(null)\n")
        (device / "class").write_text("0x020000\n")
        members = self.root / "sys/kernel/iommu_groups" / str(group) / "devices"
        members.mkdir(parents=True)
        (members / address).symlink_to(device)
        (device / "iommu_group").symlink_to(members.parent)
        self.bind(address, driver)
        return device


@dataclass(slots=True, kw_only=True)
class FakeLinks:
    """The Links protocol on such a host.

    ``refused`` are kinds of values, and MACs, with the errno that a write gets; with
    ``busy`` the first so many writes of each fail. ``ignored`` are accepted and not done.
    ``responses`` are what the switch says of a port profile, one after the other.
    """

    host: FakeHost
    refused: dict[object, int] = field(default_factory=dict)
    ignored: set[object] = field(default_factory=set)
    busy: int = 0
    responses: list[PortResponse] = field(default_factory=list)
    profile: PortProfile | None = None
    changes: dict[int, HostLink] = field(default_factory=dict)
    bridge: dict[str, int] = field(default_factory=dict)
    vlans: frozenset[int] = frozenset({1})

    def links(self) -> tuple[HostLink, ...]:
        pfs = (
            HostLink(
                ifindex=10 + number,
                name=f"pf{number}",
                names=(f"pf{number}", f"physnet{number + 1}"),
                up=True,
                carrier=True,
            )
            for number in range(self.host.pfs)
        )
        known = {link.ifindex: link for link in (*pfs, *self.host.others)} | self.changes
        return tuple(known.values())

    def change(self, ifindex: int, **values: object) -> None:
        """Change an interface."""
        (link,) = (link for link in self.links() if link.ifindex == ifindex)
        self.changes[ifindex] = replace(link, **values)  # type: ignore[arg-type]

    def vf_states(self, pf: int) -> Mapping[int, VfState]:
        return {index: self._state(pf, index) for index in range(self.host.vfs)}

    def write_vf(self, pf: int, index: int, value: Value) -> None:
        for key in (type(value), getattr(value, "mac", None)):
            if key in self.refused:
                raise LinkError(f"could not write {value} to VF {index}", self.refused[key])
        if self.busy:
            self.busy -= 1
            raise LinkError(f"could not write {value} to VF {index}", errno.EBUSY)
        own = self._filter(pf, getattr(value, "mac", "") or "")
        if "unicast" in self.refused and isinstance(value, Mac) and own.exists():
            raise LinkError(f"could not write {value} to VF {index}", self.refused["unicast"])
        if type(value) not in self.ignored:
            self._keep(pf, index, _applied(self._state(pf, index), value))

    def request_port_profile(self, pf: int, index: int, profile: PortProfile | None) -> None:
        if PortProfile in self.refused:
            raise LinkError(f"could not associate VF {index}", self.refused[PortProfile])
        self.profile = profile

    def port_profile_response(self, pf: int, index: int) -> int | None:
        if not self.responses:
            return None
        return self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]

    def set_up(self, ifindex: int, *, up: bool) -> None:
        self.change(ifindex, up=up)

    def forwarding_entries(self, mac: str) -> tuple[FdbEntry, ...]:
        own = [
            FdbEntry(ifindex=link.ifindex, mac=mac, own=True)
            for link in self.links()
            if self._filter(link.ifindex, mac).exists()
        ]
        if mac in self.bridge:
            own.append(FdbEntry(ifindex=self.bridge[mac], mac=mac, own=False))
        return tuple(own)

    def add_filter_entry(self, ifindex: int, mac: str) -> None:
        path = self._filter(ifindex, mac)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def remove_filter_entry(self, ifindex: int, mac: str) -> None:
        self._filter(ifindex, mac).unlink(missing_ok=True)

    def add_bridge_entry(self, port: int, mac: str) -> None:
        self.bridge[mac] = port

    def remove_bridge_entry(self, port: int, mac: str) -> None:
        if self.bridge.get(mac) == port:
            del self.bridge[mac]

    def port_vlans(self, port: int) -> frozenset[int]:
        return self.vlans

    def create_macvtap(self, lower: int, name: str, mac: str, alias: str) -> None:
        if any(link.name == name for link in self.links()):
            raise LinkError(f"could not create macvtap {name}", errno.EEXIST)
        index = 100 + len(self.changes)
        self.changes[index] = HostLink(
            ifindex=index,
            name=name,
            names=(name,),
            mac=mac,
            kind="macvtap",
            lower=lower,
            alias=alias,
        )

    def delete_link(self, ifindex: int) -> None:
        self.changes.pop(ifindex, None)

    def _filter(self, ifindex: int, mac: str) -> Path:
        return self.host.root / "filter" / str(ifindex) / mac

    def _state(self, pf: int, index: int) -> VfState:
        path = self._path(pf, index)
        if not path.exists():
            return replace(
                CLEAN, link_state=LinkState.AUTO, min_rate_mbit_per_s=0, max_rate_mbit_per_s=0
            )
        values = json.loads(path.read_text())
        return VfState(
            **values
            | {
                "vlan_protocol": VlanProtocol(values["vlan_protocol"]),
                "link_state": LinkState(values["link_state"]),
            }
        )

    def _keep(self, pf: int, index: int, state: VfState) -> None:
        path = self._path(pf, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}")
        beside.write_text(json.dumps(asdict(state)))
        beside.replace(path)

    def _path(self, pf: int, index: int) -> Path:
        return self.host.root / "states" / f"{pf}-{index}.json"


def _applied(state: VfState, value: Value) -> VfState:
    match value:
        case Mac():
            return replace(state, mac=value.mac)
        case VlanTag():
            return replace(state, vlan=value.vlan, qos=value.qos, vlan_protocol=value.protocol)
        case Trust():
            return replace(state, trust=value.on)
        case SpoofCheck():
            return replace(state, spoof_check=value.on)
        case Carrier():
            return replace(state, link_state=value.state)
        case Rate():
            return replace(
                state,
                min_rate_mbit_per_s=value.min_mbit_per_s,
                max_rate_mbit_per_s=value.max_mbit_per_s,
            )
