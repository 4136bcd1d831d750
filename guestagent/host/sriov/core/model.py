"""Values of SR-IOV: the VFs of a host, a VM's requirements, and leases.

Pure data. A VF or PF is identified by its PCI address (``0000:3b:02.1``), which does not change
while the device exists; names of interfaces are for messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, ClassVar

from guestagent.json_fields import Range

Vlan = Annotated[int, Range(0, 4094)]
NO_MAC = "00:00:00:00:00:00"
CLEARED_MAC = "02:00:00:00:00:00"
"""Stands for no MAC with a driver that refuses zeros."""


class VlanProtocol(StrEnum):
    """Protocol of the tag that the PF adds to a VF's frames."""

    DOT1Q = "802.1Q"
    DOT1AD = "802.1ad"


class LinkState(StrEnum):
    """Carrier of a VF: that of its PF, or always on or off (K: IFLA_VF_LINK_STATE)."""

    AUTO = "auto"
    ENABLE = "enable"
    DISABLE = "disable"


class OnRefusal(StrEnum):
    """Consequence of a driver's refusal of an optional value."""

    WARN = "warn"
    FAIL = "fail"


# --- requirements of a VM ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseOwner:
    """Holder of a lease: a VM, and the operation and device that it was taken for."""

    WIRE_NAME: ClassVar[str] = "Owner"

    vm: str
    operation: str

    @classmethod
    def by_hand(cls, vm: str, mac: str) -> LeaseOwner:
        """Return the owner of the leases that ``vf claim`` takes for a pair."""
        return cls(vm=vm, operation=f"vf claim {mac}")

    @classmethod
    def in_operation(cls, vm: str, operation: str, side: str, vf: str) -> LeaseOwner:
        """Return the owner of the leases of an operation for the device ``vf`` of an end."""
        return cls(vm=vm, operation=f"{operation}/{side}/{vf}")

    def is_for(self, vm: str, side: str, vf: str, mac: str) -> bool:
        """Whether the lease was taken for this device, by ``vf claim`` or in any operation."""
        of_device = self.operation.endswith(f"/{side}/{vf}")
        return self.vm == vm and (of_device or self == LeaseOwner.by_hand(vm, mac))

    def __str__(self) -> str:
        return f"{self.vm} ({self.operation})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """Requirements on a VF.

    ``pfs`` are names of PFs: of the interface, one of its alternative names
    (``ip link property add dev ens1f0 altname physnet1``: one name for a
    network on every host) or a PCI address; empty stands for any PF.
    ``vf`` is the address of the one VF that fits. ``mtu`` is the least MTU of the PF.
    """

    pfs: tuple[str, ...] = ()
    vf: str | None = None
    vlan: Vlan = 0
    mtu: Annotated[int, Range(68)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PortProfile:
    """An 802.1Qbh port profile; the UUIDs are texts in the usual form."""

    name: str
    instance: str | None = None
    host: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standby:
    """The host's end of the virtio NIC that shares the VF's MAC: a tap or macvtap."""

    link: str
    mac: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VfSettings:
    """Values to program into a VF. None keeps an optional value as this host has it.

    MAC and VLAN are always written, VLAN 0 (no tag) too: otherwise those of the former tenant
    would stay. Rates are in Mbit/s, 0 is no limit. ``standby`` receives the guest's frames while
    the VF is away.
    """

    mac: str
    vlan: Vlan = 0
    qos: Annotated[int, Range(0, 7)] = 0
    vlan_protocol: VlanProtocol = VlanProtocol.DOT1Q
    trust: bool | None = None
    spoof_check: bool | None = None
    link_state: LinkState | None = None
    min_rate_mbit_per_s: Annotated[int, Range(0)] | None = None
    max_rate_mbit_per_s: Annotated[int, Range(0)] | None = None
    port_profile: PortProfile | None = None
    on_refusal: OnRefusal = OnRefusal.WARN
    standby: Standby | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provision:
    """Requirements on a pair's VF at one end, and the values to program."""

    want: Want
    settings: VfSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Macvtap:
    """A macvtap for a standby: its interface, and the device that QEMU gets a descriptor of."""

    link: str
    device: str


# --- contents of a host ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class VfState:
    """Values of a VF as the PF reports them; None for those that its driver does not report."""

    mac: str
    vlan: int = 0
    qos: int = 0
    vlan_protocol: VlanProtocol = VlanProtocol.DOT1Q
    trust: bool | None = None
    spoof_check: bool | None = None
    link_state: LinkState | None = None
    min_rate_mbit_per_s: int | None = None
    max_rate_mbit_per_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process that has the VF open through vfio."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.name})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right of one owner to one VF until its release; a crash does not end it.

    The release restores the values ``prior``, the driver ``former_driver`` and the
    driver_override ``former_override``. ``prior`` is None if the VM had the VF already: there are
    no values to restore then. ``settings`` are those written last, None before. ``warnings`` are
    those of the last step.
    """

    vf: str
    pf: str
    pf_name: str
    index: int
    owner: LeaseOwner
    claimed_at: str
    prior: VfState | None
    former_driver: str | None
    former_override: str | None = None
    settings: VfSettings | None = None
    warnings: tuple[str, ...] = ()

    def is_for(self, vm: str, mac: str) -> bool:
        """Whether the lease belongs to a VM, for the pair with this MAC."""
        return self.owner.vm == vm and self.settings is not None and self.settings.mac == mac


@dataclass(frozen=True, slots=True, kw_only=True)
class Vf:
    """A VF and its user: each of ``lease``, ``user`` and ``host_use`` excludes others.

    ``state`` is None if the PF does not report it. ``host_use`` describes the use by this host:
    an interface that is up or cannot be read.
    ``group_mates`` are other devices of the IOMMU group that keep vfio from it.
    """

    address: str
    index: int
    driver: str | None
    iommu_group: int | None
    state: VfState | None
    lease: Lease | None = None
    user: Process | None = None
    host_use: str | None = None
    group_mates: tuple[str, ...] = ()

    @property
    def holder(self) -> str | None:
        """Describe the holder of the VF, None if it is free."""
        if self.lease is not None:
            return f"lease of {self.lease.owner}"
        if self.user is not None:
            return str(self.user)
        return f"this host: {self.host_use}" if self.host_use is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pf:
    """A PF with its VFs. ``names`` are the interface's, the alternative ones and the address.

    ``vlans`` are those that a VLAN-filtering bridge above permits, None without a filter.
    """

    address: str
    name: str
    names: tuple[str, ...]
    driver: str | None
    up: bool
    carrier: bool
    mtu: int
    vfs: tuple[Vf, ...]
    total_vfs: int
    vlans: frozenset[int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """All PFs of a host with SR-IOV, in the order of their addresses."""

    pfs: tuple[Pf, ...]

    def lease_for(self, vm: str, mac: str) -> Lease | None:
        """Return a VM's lease on the VF that was programmed with a MAC; None without one.

        Of several, the lease of a VF that a process has open comes first: a VF that could not be
        released keeps its lease, although the guest does not use it any more.
        """
        vfs = sorted((vf for pf in self.pfs for vf in pf.vfs), key=lambda vf: vf.user is None)
        leases = (vf.lease for vf in vfs if vf.lease is not None)
        return next((lease for lease in leases if lease.is_for(vm, mac)), None)

    def vf(self, address: str) -> tuple[Pf, Vf] | None:
        """Return a VF and its PF, None without such a VF."""
        found = ((pf, vf) for pf in self.pfs for vf in pf.vfs if vf.address == address)
        return next(found, None)
