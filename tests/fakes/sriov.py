"""The VFs of a host, in memory: what the real pool does, without a host."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from guestagent.errors import DeadlineError
from guestagent.host.sriov.base import NotLeasedError, NoVfError, VfRefusedError
from guestagent.host.sriov.core.model import (
    NO_MAC,
    Inventory,
    Lease,
    LeaseOwner,
    Macvtap,
    OnRefusal,
    Pf,
    Process,
    Standby,
    Vf,
    VfSettings,
    VfState,
    Want,
)

PF = "0000:01:00.0"
CLEAN = VfState(mac=NO_MAC, spoof_check=True, trust=False)


@dataclass(slots=True, kw_only=True)
class FakeVfHost:
    """State that two helpers on one host share.

    ``states`` has the values of each VF, ``leases`` the leases,
    ``users`` the processes that have one open (a QEMU: until it is unplugged),
    ``plugged_ready`` the VFs that vfio has, ``open`` the standbys that the host
    delivers to. ``refuses`` are names of values (``mac``, ``trust``) that the
    driver turns down.
    """

    count: int = 2
    pf_name: str = "pf0"
    mtu: int = 1500
    states: dict[str, VfState] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)
    users: dict[str, Process] = field(default_factory=dict)
    plugged_ready: set[str] = field(default_factory=set)
    open: set[Standby] = field(default_factory=set)
    refuses: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Give every VF the state of one that nobody has used."""
        for index in range(self.count):
            self.states.setdefault(f"0000:01:10.{2 * index}", CLEAN)


class FakeVfPool:
    """The VfPool protocol on such a host; several may share one."""

    def __init__(self, host: FakeVfHost | None = None) -> None:
        self.host = host or FakeVfHost()

    async def inventory(self) -> Inventory:
        """Return the one PF and its VFs."""
        vfs = tuple(
            Vf(
                address=address,
                index=index,
                driver="vfio-pci" if address in self.host.plugged_ready else None,
                iommu_group=10 + index,
                state=state,
                lease=self.host.leases.get(address),
                user=self.host.users.get(address),
            )
            for index, (address, state) in enumerate(self.host.states.items())
        )
        pf = Pf(
            address=PF,
            name=self.host.pf_name,
            names=(self.host.pf_name, "physnet1", PF),
            driver="fake",
            up=True,
            carrier=True,
            mtu=self.host.mtu,
            vfs=vfs,
            total_vfs=len(vfs),
        )
        return Inventory(pfs=(pf,))

    async def leases(self, vm: str | None = None) -> tuple[Lease, ...]:
        """Return the leases, of one VM if given."""
        return tuple(
            lease for lease in self.host.leases.values() if vm is None or lease.owner.vm == vm
        )

    async def claim(self, want: Want, owner: LeaseOwner) -> Lease:
        """Promise the first VF that fits."""
        reasons = [f"no PF is called {name}" for name in want.pfs if not self._has(name)]
        if reasons and len(reasons) == len(want.pfs):
            raise NoVfError("; ".join(reasons))
        if want.mtu is not None and want.mtu > self.host.mtu:
            raise NoVfError(f"{self.host.pf_name} has MTU {self.host.mtu}, wanted {want.mtu}")
        if want.vf is not None and want.vf not in self.host.states:
            raise NoVfError(f"there is no VF {want.vf}")
        (pf,) = (await self.inventory()).pfs
        for vf in pf.vfs:
            if want.vf is not None and vf.address != want.vf:
                continue
            if vf.lease is not None and vf.lease.owner == owner and want.vf is not None:
                return vf.lease
            if vf.holder is None:
                return self._keep(self._lease(vf, owner, prior=vf.state))
            reasons.append(f"{vf.address}: {vf.holder}")
        raise NoVfError("; ".join(reasons))

    async def adopt(self, vf: str, owner: LeaseOwner, settings: VfSettings) -> Lease:
        """Take over the lease on a VF that the VM has."""
        found = (await self.inventory()).vf(vf)
        if found is None:
            raise NoVfError(f"there is no VF {vf}")
        lease = found[1].lease
        if lease is not None and lease.owner.vm != owner.vm:
            raise NoVfError(f"{vf}: {found[1].holder}")
        if lease is not None:
            return self._keep(replace(lease, owner=owner, settings=settings, warnings=()))
        return self._keep(self._lease(found[1], owner, prior=None, settings=settings))

    async def program(self, lease: Lease, settings: VfSettings) -> Lease:
        """Write the settings, as far as the driver takes them, once no process has the VF."""
        lease = self._held(lease)
        self._must_be_closed(lease.vf)
        warnings = []
        if self.host.refuses & {"mac", "vlan"}:
            raise VfRefusedError(f"{lease.vf}: {lease.pf_name} refuses its MAC or VLAN")
        if settings.trust is not None and "trust" in self.host.refuses:
            if settings.on_refusal is OnRefusal.FAIL:
                raise VfRefusedError(f"{lease.vf}: {lease.pf_name} refuses trust")
            warnings.append(f"{lease.vf}: {lease.pf_name} refuses trust")
        state = self.host.states[lease.vf]
        self.host.states[lease.vf] = replace(
            state,
            mac=settings.mac,
            vlan=settings.vlan,
            qos=settings.qos,
            vlan_protocol=settings.vlan_protocol,
            trust=state.trust if settings.trust is None else settings.trust,
            spoof_check=(
                state.spoof_check if settings.spoof_check is None else settings.spoof_check
            ),
        )
        self.host.plugged_ready.add(lease.vf)
        return self._keep(replace(lease, settings=settings, warnings=tuple(warnings)))

    async def settle(self, lease: Lease) -> Lease:
        """Close the standby's path."""
        lease = self._held(lease)
        if lease.settings is not None and lease.settings.standby is not None:
            self.host.open.discard(lease.settings.standby)
        return lease

    async def withdraw(self, lease: Lease) -> Lease:
        """Clear the MAC and open the standby's path, once no process has the VF."""
        lease = self._held(lease)
        self._must_be_closed(lease.vf)
        self.host.states[lease.vf] = replace(self.host.states[lease.vf], mac=NO_MAC)
        if lease.settings is not None and lease.settings.standby is not None:
            self.host.open.add(lease.settings.standby)
        return lease

    async def release(self, lease: Lease) -> tuple[str, ...]:
        """Clear the VF and end the lease."""
        try:
            lease = self._held(lease)
        except NotLeasedError:
            return ()
        self._must_be_closed(lease.vf)
        self.host.states[lease.vf] = lease.prior or CLEAN
        self.host.plugged_ready.discard(lease.vf)
        del self.host.leases[lease.vf]
        return ()

    async def open_standby(self, standby: Standby) -> tuple[str, ...]:
        """Deliver to the standby."""
        self.host.open.add(standby)
        return ()

    async def close_standby(self, standby: Standby) -> tuple[str, ...]:
        """Deliver to it no more."""
        self.host.open.discard(standby)
        return ()

    async def create_macvtap(self, lease: Lease, name: str, mac: str) -> Macvtap:
        """Make the macvtap, which is open from then on."""
        self._held(lease)
        self.host.open.add(Standby(link=name, mac=mac))
        return Macvtap(link=name, device="/dev/tap7")

    def _has(self, name: str) -> bool:
        return name in {self.host.pf_name, "physnet1", PF}

    def _held(self, lease: Lease) -> Lease:
        current = self.host.leases.get(lease.vf)
        if current is None or current.owner != lease.owner:
            raise NotLeasedError(f"{lease.vf}: {lease.owner} has no lease on it")
        return current

    def _must_be_closed(self, vf: str) -> None:
        if vf in self.host.users:
            raise DeadlineError(f"{vf}: {self.host.users[vf]} still has it")

    def _keep(self, lease: Lease) -> Lease:
        self.host.leases[lease.vf] = lease
        return lease

    def _lease(
        self,
        vf: Vf,
        owner: LeaseOwner,
        *,
        prior: VfState | None,
        settings: VfSettings | None = None,
    ) -> Lease:
        return Lease(
            vf=vf.address,
            pf=PF,
            pf_name=self.host.pf_name,
            index=vf.index,
            owner=owner,
            claimed_at="2026-01-01T00:00:00Z",
            prior=prior,
            former_driver=None,
            settings=settings,
        )
