"""Connections to a VM's QEMU and guest agents on this host, from its description."""

from __future__ import annotations

from guestagent.errors import ConfigurationError
from guestagent.host.hypervisor.guest import agent
from guestagent.host.hypervisor.guest.qga import QemuGuestAgent
from guestagent.host.hypervisor.qmp.qemu import Qemu
from guestagent.host.model import End, Endpoint, Vm


def endpoint(vm: Vm, end: End) -> Endpoint:
    """Return the sockets at one end. Raises ConfigurationError where none are described."""
    if end is End.SOURCE:
        return vm.source
    if vm.destination is None:
        raise ConfigurationError(
            f"{vm.name}: its description has no [destination]",
            hint="add the table, with the qmp socket and the uri of the QEMU there; see --help",
        )
    return vm.destination.endpoint


def hypervisor(vm: Vm, end: End) -> Qemu:
    """Return the QEMU at one end, which is on this host; it connects at the first command."""
    return Qemu(endpoint(vm, end).qmp, end, timeout_s=vm.timeouts.command_s)


def qemu_ga(vm: Vm, end: End) -> QemuGuestAgent | None:
    """Return the guest's qemu-ga, None where none is described."""
    path = endpoint(vm, end).qga
    return None if path is None else QemuGuestAgent(path, timeout_s=vm.timeouts.command_s)


def guest(vm: Vm, end: End) -> agent.GuestAgentClient | None:
    """Return the guest's agent, by the described transports; None if there is none."""
    return agent_of(endpoint(vm, end), vm.timeouts.command_s)


def agent_of(sockets: Endpoint, command_s: float) -> agent.GuestAgentClient | None:
    """Return the agent behind a QEMU's sockets; None if there is no socket to it."""
    transports: list[agent.AgentTransport] = []
    if sockets.agent is not None:
        transports.append(agent.SerialTransport(sockets.agent))
    qga_fallback = (
        None if sockets.qga is None else QemuGuestAgent(sockets.qga, timeout_s=command_s)
    )
    if qga_fallback is not None:
        transports.append(agent.QgaExecTransport(qga_fallback))
    return agent.GuestAgentClient(transports, qga_fallback=qga_fallback) if transports else None
