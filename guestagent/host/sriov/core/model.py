"""The words of SR-IOV: what a host has, what a VM wants of it, and what it was promised.

Pure data. A VF or PF is named by its PCI address (``0000:3b:02.1``), which does
not change while the device is there; names of interfaces are for people.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

NO_MAC = "00:00:00:00:00:00"
CLEARED_MAC = "02:00:00:00:00:00"
"""What stands for no MAC where a driver refuses zeros."""


class VlanProtocol(StrEnum):
    """The tag that the PF puts around a VF's frames."""

    DOT1Q = "802.1Q"
    DOT1AD = "802.1ad"


class LinkState(StrEnum):
    """What carrier a VF shows: its PF's, or always this (K: IFLA_VF_LINK_STATE)."""

    AUTO = "auto"
    ENABLE = "enable"
    DISABLE = "disable"


class OnRefusal(StrEnum):
    """What a driver's refusal of an optional value leads to."""

    WARN = "warn"
    FAIL = "fail"


# --- what a VM wants ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseOwner:
    """Who holds a lease: a VM, and the operation that took it, for which of its devices."""

    vm: str
    operation: str

    @classmethod
    def by_hand(cls, vm: str, mac: str) -> LeaseOwner:
        """Return the owner of what ``vf claim`` takes for a pair."""
        return cls(vm=vm, operation=f"vf claim {mac}")

    @classmethod
    def in_operation(cls, vm: str, operation: str, side: str, vf: str) -> LeaseOwner:
        """Return the owner of what an operation takes for the device ``vf`` of a side."""
        return cls(vm=vm, operation=f"{operation}/{side}/{vf}")

    def is_for(self, vm: str, side: str, vf: str, mac: str) -> bool:
        """Whether it was taken for this device, by hand or in whatever operation."""
        of_device = self.operation.endswith(f"/{side}/{vf}")
        return self.vm == vm and (of_device or self == LeaseOwner.by_hand(vm, mac))

    def __str__(self) -> str:
        return f"{self.vm} ({self.operation})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """Which VF would do.

    ``pfs`` are names of PFs: of the interface, one of its alternative names
    (``ip link property add dev ens1f0 altname physnet1``: one name for a
    network on every host) or a PCI address; empty stands for any PF.
    ``vf`` names one VF, and nothing else does. ``mtu`` is what the PF must carry.
    """

    pfs: tuple[str, ...] = ()
    vf: str | None = None
    vlan: int = 0
    mtu: int | None = None


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
    """What a VF is made to be. None leaves an optional value as this host has it.

    MAC and VLAN are always written, VLAN 0 (no tag) too, for otherwise those of
    the tenant before would stay. Rates are in Mbit/s, 0 is no limit.
    ``standby`` is the path that the traffic takes while the VF is away.
    """

    mac: str
    vlan: int = 0
    qos: int = 0
    vlan_protocol: VlanProtocol = VlanProtocol.DOT1Q
    trust: bool | None = None
    spoof_check: bool | None = None
    link_state: LinkState | None = None
    min_rate_mbit_per_s: int | None = None
    max_rate_mbit_per_s: int | None = None
    port_profile: PortProfile | None = None
    on_refusal: OnRefusal = OnRefusal.WARN
    standby: Standby | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provision:
    """What a pair's VF on one side has to be: which one, and programmed how."""

    want: Want
    settings: VfSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Macvtap:
    """A macvtap for a standby: its interface, and the device that QEMU gets a descriptor of."""

    link: str
    device: str


# --- what a host has ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class VfState:
    """What the PF says of a VF; None is what its driver does not tell."""

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
    """One VF, promised to one owner until it is released; crashes do not end it.

    ``prior`` is what the VF was before, ``former_driver`` what drove it, and
    ``former_override`` its driver_override; all are restored by the release.
    ``prior`` is None when the VF was the VM's already: then nothing of it is worth
    keeping. ``settings`` are the last that were written, None before. ``warnings``
    are what the last step could not do.
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
        """Whether it is a VM's, for the pair with this MAC."""
        return self.owner.vm == vm and self.settings is not None and self.settings.mac == mac


@dataclass(frozen=True, slots=True, kw_only=True)
class Vf:
    """A VF and who has it: ``lease``, ``user`` and ``host_use`` each keep others away.

    ``state`` is None where the PF does not say. ``host_use`` is what this host does
    with it: an interface that is up, or one that cannot be looked at.
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
        """Who has it, in words; None when it is free."""
        if self.lease is not None:
            return f"lease of {self.lease.owner}"
        if self.user is not None:
            return str(self.user)
        return f"this host: {self.host_use}" if self.host_use is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pf:
    """A PF with its VFs. ``names`` are the interface's, the alternative ones and the address.

    ``vlans`` are those that a VLAN-filtering bridge above lets through, None
    where nothing filters.
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
    """All PFs of a host that have VFs or could have, in the order of their addresses."""

    pfs: tuple[Pf, ...]

    def lease_for(self, vm: str, mac: str) -> Lease | None:
        """Return a VM's lease on the VF that was programmed with a MAC; None without one.

        Of several it is that of a VF which a process has open: one that could not be given
        back keeps its lease, and is not the guest's any more.
        """
        vfs = sorted((vf for pf in self.pfs for vf in pf.vfs), key=lambda vf: vf.user is None)
        leases = (vf.lease for vf in vfs if vf.lease is not None)
        return next((lease for lease in leases if lease.is_for(vm, mac)), None)

    def vf(self, address: str) -> tuple[Pf, Vf] | None:
        """Return a VF and its PF; None when there is no such VF."""
        for pf in self.pfs:
            for vf in pf.vfs:
                if vf.address == address:
                    return pf, vf
        return None
