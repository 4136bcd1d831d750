"""VFs and leases for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from guestagent.host.report.document import document, select
from guestagent.host.sriov.core.choose import unfit_vf
from guestagent.host.sriov.core.model import Inventory, Lease, Macvtap, Pf, Process, Vf


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A VF that is ready for a pair, with the macvtap of its standby if one was requested.

    ``user`` is the process that has it open already, if it was claimed before.
    """

    mac: str
    lease: Lease
    macvtap: Macvtap | None = None
    user: Process | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A lease that has ended, and warnings about settings that could not be restored."""

    lease: Lease
    warnings: tuple[str, ...]


def listed(inventory: Inventory) -> str:
    """Return the PFs and VFs for people."""
    if not inventory.pfs:
        return "this host has no PF: no device with SR-IOV and an interface in this namespace"
    return "\n".join(line for pf in inventory.pfs for line in _pf_lines(pf))


def listed_as_json(inventory: Inventory) -> str:
    """Return the PFs and VFs for programs."""
    return document(pfs=[_pf(pf) for pf in inventory.pfs])


def claimed(vfs: Sequence[Claimed]) -> str:
    """Return the claimed VFs for people."""
    lines = []
    for vf in vfs:
        lease = vf.lease
        state = "reserved" if lease.settings is None else "ready for vfio-pci"
        state = state if vf.user is None else f"in use by {vf.user}"
        lines.append(f"{vf.mac}: {lease.vf}, VF {lease.index} of {lease.pf_name}: {state}")
        if vf.macvtap is not None:
            lines.append(f"  standby: {vf.macvtap.link}, {vf.macvtap.device}")
        lines += [f"  warning: {text}" for text in lease.warnings]
    return "\n".join(lines)


def claimed_as_json(vfs: Sequence[Claimed]) -> str:
    """Return the claimed VFs for programs."""
    return document(
        vfs=[
            {
                "mac": vf.mac,
                "lease": _lease(vf.lease),
                "macvtap": None if vf.macvtap is None else asdict(vf.macvtap),
                "process": None if vf.user is None else asdict(vf.user),
                "warnings": vf.lease.warnings,
            }
            for vf in vfs
        ]
    )


def released(vfs: Sequence[Released]) -> str:
    """Return the released VFs for people."""
    if not vfs:
        return "nothing to release: there is no such lease"
    lines = []
    for vf in vfs:
        lines.append(f"{vf.lease.vf}: released by {vf.lease.owner}")
        lines += [f"  warning: {text}" for text in vf.warnings]
    return "\n".join(lines)


def released_as_json(vfs: Sequence[Released]) -> str:
    """Return the released VFs for programs."""
    return document(vfs=[{"lease": _lease(vf.lease), "warnings": vf.warnings} for vf in vfs])


def _pf_lines(pf: Pf) -> list[str]:
    state = "up" if pf.up and pf.carrier else "no carrier" if pf.up else "down"
    others = [name for name in pf.names if name not in {pf.name, pf.address}]
    named = f" ({', '.join(others)})" if others else ""
    head = f"{pf.name}{named}  {pf.address}  {pf.driver or 'no driver'}, {state}, MTU {pf.mtu}"
    lines = [f"{head}, {len(pf.vfs)} of {pf.total_vfs} VFs"]
    for vf in pf.vfs:
        shown = "PF says nothing" if vf.state is None else f"{vf.state.mac} VLAN {vf.state.vlan}"
        lines.append(
            f"  {vf.index:<3} {vf.address}  {vf.driver or '-':<9} {shown}"
            f"  {unfit_vf(vf) or 'free'}"
        )
    return lines


def _pf(pf: Pf) -> dict[str, Any]:
    return {
        **select(pf, "address", "name", "names", "driver", "up", "carrier", "mtu", "total_vfs"),
        "vlans": None if pf.vlans is None else sorted(pf.vlans),
        "vfs": [_vf(vf) for vf in pf.vfs],
    }


def _vf(vf: Vf) -> dict[str, Any]:
    return {
        **select(vf, "address", "index", "driver", "iommu_group"),
        "state": None if vf.state is None else asdict(vf.state),
        "free": unfit_vf(vf) is None,
        "holder": vf.holder,
        "lease": None if vf.lease is None else _lease(vf.lease),
        "process": None if vf.user is None else asdict(vf.user),
        **select(vf, "host_use", "group_mates"),
    }


def _lease(lease: Lease) -> dict[str, Any]:
    document = asdict(lease)
    del document["warnings"]
    return document
