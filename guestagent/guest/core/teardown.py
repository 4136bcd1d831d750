"""Teardown of a bond of the agent: the steps that give its NIC the addressing back. Pure.

The reverse of ``planner``, and like it derived from the snapshot alone: any prefix of the
steps, planned from again, leads to the same end.

The order is make before break. While a VF carries the traffic, the standby leaves the bond and
comes up, and only once the kernel transmits on it do addresses and routes move back in one burst;
the bond accepts what still arrives on the VF until the network has learnt the new path. Without a
VF the standby is the only way out: it must be down for a moment to leave the bond, and the burst
follows at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from guestagent.guest.core import actions as act
from guestagent.guest.core.link import STANDBY_DRIVER, Link
from guestagent.guest.core.pair import Refusal
from guestagent.guest.core.plan import Plan
from guestagent.guest.core.snapshot import Snapshot


def teardown(snapshot: Snapshot) -> Plan:
    """Return the next steps for every undone pair that still has a bond."""
    plan = Plan()
    for mac in sorted(snapshot.undone):
        bond = snapshot.bond_of(mac)
        if bond is None:
            continue
        refusal = teardown_refusal(snapshot, mac, bond)
        if refusal is not None:
            plan += Plan(refusals=(refusal,))
            continue
        steps = _Teardown.of(snapshot, mac, bond)
        plan += Plan(actions=tuple(steps.actions()), waiting=tuple(steps.waiting()))
    return plan


def teardown_refusal(snapshot: Snapshot, mac: str, bond: Link) -> Refusal | None:
    """Return the reason why a bond cannot be taken apart live, or None."""
    above = [link.name for link in snapshot.above(bond)]
    upper = snapshot.link(bond.upper)
    if upper is not None:
        above.append(f"{upper.kind or 'master'} {upper.name}")
    if not above:
        return None
    return Refusal(
        mac=mac,
        links=(bond.name,),
        reason=f"{', '.join(above)} uses {bond.name}, which would go with it",
        hint=f"take {bond.name} out of it or remove it first, and run `guestagent undo` again",
    )


@dataclass(frozen=True, slots=True)
class _Teardown:
    """The teardown of one bond."""

    snapshot: Snapshot
    bond: Link
    nic: Link | None
    """NIC that gets the addressing back: the standby, without one the VF."""
    others: tuple[Link, ...]
    """All other NICs of the pair."""
    vf: Link | None
    """VF that can carry the traffic meanwhile."""

    @classmethod
    def of(cls, snapshot: Snapshot, mac: str, bond: Link) -> _Teardown:
        nics = snapshot.nics_of(mac)
        ports = [nic for nic in nics if nic.is_port_of(bond)]
        free = [nic for nic in nics if nic.upper is None]
        standbys = [nic for nic in (*ports, *free) if nic.driver == STANDBY_DRIVER]
        restored = next(iter([*standbys, *ports]), None)
        others = tuple(nic for nic in nics if nic != restored)
        kept_off_vf = mac in snapshot.held | snapshot.avoided
        carriers = [nic for nic in others if nic.is_port_of(bond) and nic.operational]
        vf = carriers[0] if carriers and not kept_off_vf else None
        return cls(snapshot, bond, restored, others, vf)

    def waiting(self) -> Iterator[str]:
        """Describe the state that the next step needs."""
        nic, bond = self.nic, self.bond.name
        if nic is None or not self._vf_carries:
            return
        if self._cannot_take_over:
            yield f"{nic.name} has no carrier: {bond} stays until it could take over"
        elif nic.is_port_of(self.bond) or not nic.operational:
            yield f"{nic.name} takes the addresses of {bond} back once it has a carrier"
        elif not self._drained:
            yield f"{bond} takes what still arrives on the VF for a moment"

    def actions(self) -> Iterator[act.Action]:
        """Yield the steps up to the next state that must be waited for."""
        nic, bond = self.nic, self.bond.name
        if nic is not None:
            if self._cannot_take_over:
                return
            yield from self._remove_from_bond(nic)
            if self._vf_carries and (nic.is_port_of(self.bond) or not nic.operational):
                return
            yield from self._move_back(nic)
        if self._vf_carries and not self._drained:
            return
        yield act.RemoveStackFiles(bond, "it goes")
        yield act.ReloadStack(bond, "the NIC has its own configuration again")
        for vf in self.others:
            joined = vf.is_port_of(self.bond)
            if joined:
                yield act.RemovePort(bond, "the bond goes", port=vf.ref)
            if not vf.ipv6_addr_gen and (joined or not vf.up):
                yield act.SetIpv6AddrGen(bond, "it is an ordinary NIC again", port=vf.ref, on=True)
        yield act.DeleteBond(bond, "it was asked for")

    def _remove_from_bond(self, nic: Link) -> Iterator[act.Action]:
        """Get the NIC out of the bond and up, without addresses of its own."""
        bond, joined = self.bond.name, nic.is_port_of(self.bond)
        if joined:
            yield from self._move_traffic_off(nic)
            if nic.ipv6_addr_gen:
                yield act.SetIpv6AddrGen(
                    bond, "the bond has the addresses", port=nic.ref, on=False
                )
            yield act.DetachFromStack(bond, "its addresses come back first", port=nic.ref)
            yield act.RemovePort(bond, "it goes on by itself", port=nic.ref)
        if self.bond.up and (joined or not nic.up):
            yield act.SetUp(
                bond,
                "it takes the traffic",
                port=nic.ref,
                up=True,
                accept_ra=self.bond.ipv6_addr_gen,
            )

    def _move_traffic_off(self, nic: Link) -> Iterator[act.Action]:
        """Make the VF the active port, and accept frames on both ports meanwhile."""
        bond, vf, state = self.bond.name, self.vf, self.bond.bond
        if vf is None or state is None:
            return
        if state.active != vf.ifindex:
            yield act.SetAllPortsActive(bond, f"the traffic moves to {vf.name}", on=True)
            yield act.SetPrimary(bond, f"{nic.name} leaves", port=vf.ref)
        elif not state.all_ports_active:
            yield act.SetAllPortsActive(bond, f"{nic.name} leaves", on=True)

    def _move_back(self, nic: Link) -> Iterator[act.Action]:
        """Move the addressing of the bond to the NIC, with the stack files that it needs."""
        bond = self.bond
        for file in self.snapshot.stack_files.get(bond.name, ()):
            if not file.in_place:
                yield act.WriteStackFile(
                    bond.name,
                    f"{nic.name} goes on with what it gets",
                    path=file.path,
                    content=file.content,
                )
        addressing = bond.addressing
        if addressing is not None and (addressing.addresses or addressing.routes):
            yield act.DetachFromStack(bond.name, "its addresses are to move", port=bond.ref)
            yield act.MoveAddressing(
                bond.name, f"{bond.name} goes", port=nic.ref, to_bond=False, addressing=addressing
            )
            reason = f"{nic.name} has the addresses"
            yield act.RemoveStackFiles(bond.name, reason)
            yield act.ReloadStack(bond.name, reason)
        if bond.ipv6_addr_gen and (not nic.ipv6_addr_gen or nic.is_port_of(bond)):
            yield act.SetIpv6AddrGen(
                bond.name, "it has its addresses again", port=nic.ref, on=True
            )

    @property
    def _vf_carries(self) -> bool:
        """Whether a VF carries the traffic while the NIC is prepared."""
        return self.nic is not None and self.bond.operational and self.vf is not None

    @property
    def _cannot_take_over(self) -> bool:
        """Whether the NIC has no carrier to take over the traffic of a VF."""
        nic = self.nic
        return nic is not None and (
            self._vf_carries and nic.is_port_of(self.bond) and not nic.carrier
        )

    @property
    def _drained(self) -> bool:
        """Whether the bond has had no addresses for the drain time."""
        state = self.bond.bond
        return not self.bond.addresses and (state is None or state.drained)
