"""Connections to a VM's QEMU and guest agents on this host, from its description."""

from __future__ import annotations

from guestagent.errors import ConfigurationError
from guestagent.host.hypervisor.guest.agent import AgentInGuest, ChannelWay, ExecWay, Way
from guestagent.host.hypervisor.guest.qga import GuestAgent
from guestagent.host.hypervisor.qmp.qemu import Qemu
from guestagent.host.model import Endpoint, Side, Vm


def endpoint(vm: Vm, side: Side) -> Endpoint:
    """Return the sockets of one side. Raises ConfigurationError where none are described."""
    if side is Side.SOURCE:
        return vm.source
    if vm.destination is None:
        raise ConfigurationError(
            f"{vm.name}: its description has no [destination]",
            hint="add the table, with the qmp socket and the uri of the QEMU there; see --help",
        )
    return vm.destination.endpoint


def hypervisor(vm: Vm, side: Side) -> Qemu:
    """Return the QEMU of one side, which is on this host; it connects when it is first asked."""
    return Qemu(endpoint(vm, side).qmp, side, timeout_s=vm.timeouts.command_s)


def qemu_ga(vm: Vm, side: Side) -> GuestAgent | None:
    """Return the guest's qemu-ga, None where none is described."""
    path = endpoint(vm, side).qga
    return None if path is None else GuestAgent(path, timeout_s=vm.timeouts.command_s)


def guest(vm: Vm, side: Side) -> AgentInGuest | None:
    """Return the ways to the guest's agent in their order, None where none is described."""
    return agent_of(endpoint(vm, side), vm.timeouts.command_s)


def agent_of(sockets: Endpoint, command_s: float) -> AgentInGuest | None:
    """Return the ways to the agent behind a QEMU's sockets, None where there is none."""
    ways: list[Way] = []
    if sockets.agent is not None:
        ways.append(ChannelWay(sockets.agent))
    witness = None if sockets.qga is None else GuestAgent(sockets.qga, timeout_s=command_s)
    if witness is not None:
        ways.append(ExecWay(witness))
    return AgentInGuest(ways, witness=witness) if ways else None
