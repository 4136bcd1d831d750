"""Connection to the destination on another host, from the description of a VM."""

from __future__ import annotations

from guestagent.host.model import Vm
from guestagent.host.remote.client import Remote, ssh_command
from guestagent.host.remote.rpc import Hello


def remote(vm: Vm) -> Remote | None:
    """Return the far end if the destination is on another host; it connects at the first call."""
    if vm.destination is None or vm.destination.host is None:
        return None
    host = vm.destination.host
    hello = Hello(vm=vm.name, sockets=vm.destination.endpoint, command_s=vm.timeouts.command_s)
    return Remote(ssh_command(host), hello, origin=host)
