"""The rules of ``check``: every obstacle to a migration, each with its correction. Pure.

An ``ERROR`` prevents ``migrate`` and ``prepare`` from beginning. A ``WARNING`` costs packets,
or the acceleration at the destination. A claim of the guest leads to no more than a warning:
a guest must not be able to prevent the evacuation of a host.
"""

from __future__ import annotations

from collections.abc import Iterator

from guestagent.findings import Finding, error, ok, warning
from guestagent.host.migration.events import BothViews
from guestagent.host.migration.readiness import not_ready
from guestagent.host.migration.state import State
from guestagent.host.model import Device, PairConfig, PciPort, Topology, Vm
from guestagent.host.preflight.findings import EndFacts, PreflightFacts
from guestagent.host.preflight.vf_rules import vf_findings

_NOT_TOGETHER, _TOGETHER_SINCE = {"postcopy-ram", "multifd"}, (10, 1)
"""Q: migration/options.c, migrate_caps_check (10.0), and without that from 10.1 on."""
VFIO_MARGIN_BYTES = 1 << 30
"""Memory that vfio may map besides the guest's: the BARs of its devices."""
_ON_ROOT = "0000:00:"


def check_facts(vm: Vm, state: State, facts: PreflightFacts) -> tuple[Finding, ...]:
    """Return the findings, in the order of a migration."""
    return tuple(_findings(vm, state, facts))


def _findings(vm: Vm, state: State, facts: PreflightFacts) -> Iterator[Finding]:
    if facts.other_operation is not None:
        yield error("operation", facts.other_operation.message, facts.other_operation.hint)
    else:
        yield ok("operation", "no other operation on this VM is under way")
    if vm.destination is None:
        yield error(
            "destination",
            "the description has no [destination]: there is nowhere to migrate to",
            "add the table, with the qmp socket and the uri of the QEMU there; see --help",
        )
    away = None if facts.destination is None else facts.destination.view
    problem = not_ready(state, BothViews(home=facts.source.view, away=away))
    if problem is not None:
        yield error("guest", problem.message, problem.hint)
    else:
        yield ok("guest", str(facts.source.view))
    for end in _ends(facts):
        yield from (warning("qemu", why, None) for why in end.unknown)
        yield from _capable(vm, end)
        yield from _lockable(vm, end)
    for pair in vm.pairs:
        yield from _pair(pair, facts)
    yield from _unmovable_devices(vm, facts.source)
    yield from vf_findings(vm, facts)
    yield from _agent(vm, facts)


def _ends(facts: PreflightFacts) -> Iterator[EndFacts]:
    yield facts.source
    if facts.destination is not None and facts.destination.view.unreachable is None:
        yield facts.destination


def _capable(vm: Vm, facts: EndFacts) -> Iterator[Finding]:
    if facts.means is None:
        return
    wanted = [name for name, state in vm.migration.capabilities.items() if state]
    lacking, version = sorted(set(wanted) - facts.means.capabilities), facts.means.version
    if _NOT_TOGETHER.issubset(wanted) and version < _TOGETHER_SINCE:
        yield error(
            "capabilities",
            f"{facts.view.end}: QEMU {'.'.join(map(str, version))} does not support post-copy"
            " together with multifd",
            "leave out one of postcopy and multifd_channels",
        )
    elif lacking:
        yield error(
            "capabilities",
            f"{facts.view.end}: QEMU does not support {', '.join(lacking)}",
            "leave the option out of [migration], or use a newer QEMU",
        )
    else:
        yield ok("capabilities", f"{facts.view.end}: {', '.join(wanted)}")


def _lockable(vm: Vm, facts: EndFacts) -> Iterator[Finding]:
    end, means = facts.view.end, facts.means
    if means is None or not any(vf.driver.startswith("vfio") for vf in vm.vfs_on(end)):
        return
    need = means.memory_bytes + VFIO_MARGIN_BYTES
    if means.lockable_bytes is None:
        yield ok("locked memory", f"{end}: {means.process}")
    elif means.lockable_bytes >= need:
        yield ok("locked memory", f"{end}: {means.process} may lock enough")
    else:
        yield error(
            "locked memory",
            f"{end}: {means.process} may lock {means.lockable_bytes} bytes, and vfio pins all of"
            f" the guest's {means.memory_bytes}",
            f"prlimit --memlock={need} --pid of that process, or LimitMEMLOCK= of its unit",
        )


def _unmovable_devices(vm: Vm, source: EndFacts) -> Iterator[Finding]:
    """Find devices that prevent a migration and that no pair describes."""
    described = {pair.vf.id for pair in vm.pairs}
    for device in () if source.topology is None else source.topology.devices:
        if (device.driver or "").startswith("vfio") and device.id not in described:
            yield warning(
                "qemu",
                f"source: {device.driver} {device.id or device.address} is the VF of no pair:"
                " QEMU refuses to migrate a guest with such a device",
                "describe it as vf of a [[pair]], or unplug it",
            )


# --- pairs ----------------------------------------------------------------------------------


def _pair(pair: PairConfig, facts: PreflightFacts) -> Iterator[Finding]:
    for end in _ends(facts):
        if end.topology is not None:
            yield from _standby(pair, end, end.topology)
            yield from _port(pair, end, end.topology)
    if facts.destination is not None:
        yield from _same_addresses(pair, facts.source, facts.destination)


def _standby(pair: PairConfig, facts: EndFacts, topology: Topology) -> Iterator[Finding]:
    end = facts.view.end
    found = next((each for each in topology.devices if each.id == pair.standby), None)
    if found is None:
        yield error(
            "standby",
            f"{end}: no device {pair.standby}",
            "standby in [[pair]] is the id of the virtio-net device; inspect shows them",
        )
    elif found.mac is not None and found.mac != pair.mac:
        yield error(
            "standby",
            f"{end}: {pair.standby} has MAC {found.mac}, the pair has {pair.mac}",
            "standby and VF must have one MAC",
        )
    else:
        yield ok("standby", f"{end}: {pair.standby} with {pair.mac}")


def _port(pair: PairConfig, facts: EndFacts, topology: Topology) -> Iterator[Finding]:
    end, vf = facts.view.end, pair.vf_on(facts.view.end)
    if vf is None:
        return
    port = _port_of(topology, vf)
    if port is None and _is_other_bus(topology, vf):
        yield warning(
            "port",
            f"{end}: {vf.bus} is no PCIe port: whether it accepts {vf.id} is known only when"
            " that is plugged",
            None,
        )
    elif port is None:
        ports = ", ".join(sorted(each.id for each in topology.ports)) or "none"
        yield error(
            "port",
            f"{end}: {vf.id} is described for {vf.bus}, which is no port; there are: {ports}",
            "start QEMU with -device pcie-root-port,id=… for each VF, and name it in bus",
        )
    elif not port.hotplug:
        yield error("port", f"{end}: {port.id} allows no hot-plug", "start it with hotplug=on")
    elif port.device not in {None, vf.id}:
        yield error(
            "port", f"{end}: {port.id} has {port.device} already", "name a free one: see inspect"
        )
    else:
        free = "is free" if port.device is None else f"has {vf.id}"
        where = f", in the guest {port.slot_address}" if port.slot_address else ""
        yield ok("port", f"{end}: {port.id} {free}{where}")


def _is_other_bus(topology: Topology, vf: Device) -> bool:
    """Whether the bus may support hot-plug without a PCIe port, by the machine or a bridge."""
    bridge = any(each.id == vf.bus for each in topology.devices)
    return bridge or not topology.ports or vf.bus.startswith("pci.")


def _port_of(topology: Topology | None, vf: Device | None) -> PciPort | None:
    ports = () if topology is None or vf is None else topology.ports
    return next((each for each in ports if vf is not None and each.id == vf.bus), None)


def _same_addresses(
    pair: PairConfig, source: EndFacts, destination: EndFacts
) -> Iterator[Finding]:
    """Compare the guest addresses of the port; those behind other bridges are not known yet."""
    here = _port_of(source.topology, pair.vf)
    there = _port_of(destination.topology, pair.destination_vf)
    if here is None or there is None:
        return
    both_on_root = here.address.startswith(_ON_ROOT) and there.address.startswith(_ON_ROOT)
    if both_on_root and here.address != there.address:
        yield error(
            "guest address",
            f"{pair.vf.bus} is {here.address} at the source, {there.id} is {there.address} at the"
            " destination",
            "start the destination with the ports in the same order, or with the same addr=",
        )
    elif both_on_root:
        yield ok("guest address", f"{here.id} and {there.id} are {here.address} at both ends")


# --- the guest ------------------------------------------------------------------------------


def _agent(vm: Vm, facts: PreflightFacts) -> Iterator[Finding]:
    if facts.guest is None:
        why = facts.guest_silent or "no way to its agent is described"
        yield warning(
            "agent",
            f"the guest's agent does not answer, so the unplug will lose packets: {why}",
            "install guestagent in the guest and describe agent or qga",
        )
        return
    by_mac = {pair.mac: pair for pair in facts.guest}
    for pair in vm.pairs:
        known = by_mac.get(pair.mac)
        if known is None or not known.bonded:
            yield warning(
                "agent",
                f"the guest has no bond for {pair.mac}: it would have no network while the VF"
                " is away",
                "see guestagent status in the guest",
            )
        else:
            uses = "its VF" if known.uses_vf else "its standby"
            yield ok("agent", f"the guest has a bond for {pair.mac}, on {uses}")
