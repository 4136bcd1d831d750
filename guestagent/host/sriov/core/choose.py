"""Chooses the VF to claim, with the reasons against the others. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from guestagent.host.sriov.core.model import Inventory, LeaseOwner, Pf, Vf, Want


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The VF that fits best, or None and the reason against each candidate."""

    pf: Pf | None = None
    vf: Vf | None = None
    reasons: tuple[str, ...] = ()


def choose(inventory: Inventory, want: Want) -> Choice:
    """Return a VF that fits, of the PF named first, otherwise of that with most free VFs.

    A VF fits if it is free, vfio accepts it (no other device of its IOMMU group is in use), and
    its PF is up, has a carrier and permits the MTU and the VLAN.
    """
    reasons: list[str] = []
    best: tuple[tuple[int, int, str], Pf, Vf] | None = None
    for rank, pf in _candidates(inventory, want, reasons):
        unfit = _unfit_pf(pf, want)
        if unfit is not None:
            reasons.append(unfit)
            continue
        named = [vf for vf in pf.vfs if want.vf in {None, vf.address}]
        free = []
        for vf in named:
            why = unfit_vf(vf)
            if why is None:
                free.append(vf)
            else:
                reasons.append(f"{vf.address}: {why}")
        if free:
            key = (rank, -len(free), pf.address)
            if best is None or key < best[0]:
                best = (key, pf, free[0])
        elif not named:
            reasons.append(f"{pf.name}: has no VFs; write their number to sriov_numvfs")
    if best is not None:
        return Choice(pf=best[1], vf=best[2])
    return Choice(reasons=tuple(reasons) or ("this host has no PF with VFs",))


def held(inventory: Inventory, want: Want, is_ours: Callable[[LeaseOwner], bool]) -> Choice | None:
    """Return the VF that was claimed before and is unused, None if none fits.

    The state of its PF is not checked again: the VF is reserved already.
    """
    for _, pf in _candidates(inventory, want, []):
        for vf in pf.vfs:
            ours = vf.lease is not None and vf.user is None and is_ours(vf.lease.owner)
            if ours and want.vf in {None, vf.address}:
                return Choice(pf=pf, vf=vf)
    return None


def with_claimed(inventory: Inventory, address: str) -> Inventory:
    """Return the inventory with one VF marked as claimed, for the next choice."""

    def marked(vf: Vf) -> Vf:
        mine = vf.address == address
        return replace(vf, host_use="another pair of this VM gets it") if mine else vf

    pfs = (replace(pf, vfs=tuple(map(marked, pf.vfs))) for pf in inventory.pfs)
    return Inventory(pfs=tuple(pfs))


def unfit_vf(vf: Vf) -> str | None:
    """Return the reason against claiming a VF, None if it can be claimed."""
    if vf.holder is not None:
        return f"held by {vf.holder}"
    if vf.iommu_group is None:
        return "is in no IOMMU group; start the host with its IOMMU on (intel_iommu=on)"
    if vf.group_mates:
        return f"shares IOMMU group {vf.iommu_group} with {', '.join(vf.group_mates)}"
    return None


def _candidates(inventory: Inventory, want: Want, reasons: list[str]) -> list[tuple[int, Pf]]:
    if want.vf is not None:
        found = inventory.vf(want.vf)
        if found is None:
            reasons.append(f"{want.vf}: there is no such VF on this host")
        return [] if found is None else [(0, found[0])]
    if not want.pfs:
        return [(0, pf) for pf in inventory.pfs]
    candidates = []
    for rank, name in enumerate(want.pfs):
        named = [pf for pf in inventory.pfs if name in pf.names]
        candidates += [(rank, pf) for pf in named]
        if not named:
            reasons.append(f"{name}: no PF has this name or address")
    return candidates


def _unfit_pf(pf: Pf, want: Want) -> str | None:
    if not pf.up:
        return f"{pf.name}: is down; its VFs do not work before: ip link set {pf.name} up"
    if not pf.carrier:
        return f"{pf.name}: has no carrier"
    if want.mtu is not None and pf.mtu < want.mtu:
        return f"{pf.name}: has MTU {pf.mtu}, the guest needs {want.mtu}"
    if want.vlan and pf.vlans is not None and want.vlan not in pf.vlans:
        return f"{pf.name}: its bridge does not let VLAN {want.vlan} through"
    return None
