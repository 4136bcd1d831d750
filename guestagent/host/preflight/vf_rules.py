"""The rules of ``check`` on VFs: whether each pair's VF can be claimed on both hosts. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from guestagent.findings import Finding, error, ok, warning
from guestagent.host.model import Device, End, PairConfig, Vm
from guestagent.host.preflight.findings import EndFacts, PreflightFacts
from guestagent.host.sriov.core.choose import choose, held, with_claimed
from guestagent.host.sriov.core.model import Inventory, Pf, Provision

_AWAY = str(End.DESTINATION)
_SEE = "see guestagent-host vf list"


def vf_findings(vm: Vm, facts: PreflightFacts) -> Iterator[Finding]:
    """Return the findings on the VFs in use at the source and those wanted at the destination."""
    used = {pair.mac: _pf_in_use(vm, pair, facts.source) for pair in vm.pairs}
    for pair in vm.pairs:
        yield from _in_use(vm, pair, facts.source)
    away = facts.destination
    inventory = None if away is None else away.inventory
    for pair in vm.pairs:
        vf, provision = pair.destination_vf, pair.destination_sriov
        if inventory is None or vf is None or provision is None:
            continue
        found, inventory = _wanted(vm, pair.mac, vf, provision, inventory, used[pair.mac])
        yield found


def _in_use(vm: Vm, pair: PairConfig, source: EndFacts) -> Iterator[Finding]:
    if source.view.unreachable is None and pair.vf.id not in source.view.devices:
        yield warning(
            "vf",
            f"source: the guest has no {pair.vf.id} and migrates without it",
            "where it has the VF under another id, correct id in vf; inspect shows them",
        )
        return
    inventory, provision = source.inventory, pair.sriov
    if inventory is None or provision is None:
        return
    address = provision.want.vf
    found = None if address is None else inventory.vf(address)
    lease = None if found is None else found[1].lease
    if address is not None and found is None:
        yield error("vf", f"source: this host has no VF {address}", f"{_SEE} for host=")
    elif lease is not None and lease.owner.vm != vm.name:
        yield error(
            "vf",
            f"source: {address} is held by lease of {lease.owner}",
            f"{_SEE}; correct host in vf, or release what that VM does not use",
        )
    elif address is None and inventory.lease_for(vm.name, pair.mac) is None:
        yield error(
            "vf",
            f"source: the VF of {pair.vf.id} is not known: it has no host in the description,"
            f" and no lease of {vm.name} is for {pair.mac}",
            "name it with host in vf; a VF that vf claim has chosen has a lease",
        )


def _pf_in_use(vm: Vm, pair: PairConfig, source: EndFacts) -> Pf | None:
    """Return the PF of the guest's VF."""
    if source.inventory is None or pair.sriov is None:
        return None
    lease = source.inventory.lease_for(vm.name, pair.mac)
    address = pair.sriov.want.vf or (None if lease is None else lease.vf)
    found = None if address is None else source.inventory.vf(address)
    return None if found is None else found[0]


def _wanted(
    vm: Vm, mac: str, vf: Device, provision: Provision, inventory: Inventory, used: Pf | None
) -> tuple[Finding, Inventory]:
    """Return a finding on the VF for a pair, and the inventory without it for the next pair."""
    own = held(inventory, provision.want, lambda owner: owner.is_for(vm.name, _AWAY, vf.id, mac))
    choice = choose(inventory, provision.want) if own is None else own
    if choice.vf is None or choice.pf is None:
        return warning(
            "vf",
            f"destination: no VF for {mac}, the guest would run un-accelerated:"
            f" {'; '.join(choice.reasons)}",
            "free a VF that fits, or change pf, vlan or mtu in [pair.sriov]; see vf list",
        ), inventory
    left = with_claimed(inventory, choice.vf.address)
    what = f"destination: {choice.vf.address} of {choice.pf.name}"
    if used is not None and provision.want.mtu is None and choice.pf.mtu < used.mtu:
        return warning(
            "vf",
            f"{what} carries MTU {choice.pf.mtu}, and the source's {used.name} {used.mtu}",
            f"ip link set {choice.pf.name} mtu {used.mtu}; or mtu in [pair.sriov], as a condition",
        ), left
    return ok("vf", f"{what} {'fits' if own is None else 'is reserved for it'}"), left
