"""The program ``guestagent-host``."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

from guestagent import __version__, log
from guestagent.errors import EXIT_FAILED, ConfigurationError, GuestAgentError
from guestagent.host import config, inspect, report
from guestagent.host.driver import Driver, Outcome
from guestagent.host.hypervisor.base import Guest, Hypervisor
from guestagent.host.hypervisor.guest import AgentInGuest, ChannelWay, ExecWay, Way
from guestagent.host.hypervisor.qemu import Qemu
from guestagent.host.hypervisor.qga import GuestAgent
from guestagent.host.lock import vm_lock
from guestagent.host.model import Endpoint, Side, Vm
from guestagent.host.progress import ProgressView
from guestagent.host.state import Goal, Limits

STATE_DIR = Path("/var/lib/guestagent-host")

_DESCRIPTION = """\
Takes the virtual function away from a VM before its live migration and gives
it one where it arrives. The VM is described in a TOML file, shown below.
"""

_COMMANDS = {
    "inspect": "show every NIC with its guest PCI address, and the ports that are free",
    "detach": "take the VFs away: the guest goes on with its standby NICs",
    "attach": "give the guest the VFs that are described and missing",
    "migrate": "detach, migrate, attach at the destination; back to the beginning on failure",
}

_EPILOG = f"""\
what migrate does, in order:
  prepare  ask both QEMUs: the guest runs here, the other one waits for it
  switch   ask the agent in the guest to leave the VF: nothing is lost then
  detach   ask the guest to release each VF and wait until it has gone
  launch, migrate
           move the memory; Ctrl-C cancels, and the VFs come back
  decide   ask both QEMUs where the guest is now
  attach   give it the VFs of the destination
  confirm  wait until the agent says that it uses them
  A failure at any point ends in one guest that runs, with its VFs if possible.
  Nothing is ever killed. Where it cannot be proved what happened, nothing is
  touched, and both answers are shown.

exit codes:
  0  done, also if the destination describes no VF     1  failed, or not known
  2  wrong usage or description                        75 try again later

example of a VM description:

{textwrap.indent(config.EXAMPLE, "  ")}"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    arguments = _parser().parse_args(argv)
    log.setup(verbose=arguments.verbose)
    try:
        return _run(arguments)
    except GuestAgentError as error:
        hint = f"\n  what to do: {error.hint}" if error.hint else ""
        sys.stderr.write(f"guestagent-host: {error}{hint}\n")
        return error.exit_code
    except KeyboardInterrupt:  # outside a command, which hears of it by itself
        sys.stderr.write("guestagent-host: interrupted\n")
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="guestagent-host",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in _COMMANDS.items():
        command = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog="guestagent-host --help shows an example of a VM description.",
        )
        command.add_argument("vm", metavar="VM.toml", type=Path, help="the VM's description")
        command.add_argument(
            "--json", action="store_true", help="print one JSON object on stdout at the end"
        )
        command.add_argument("--verbose", action="store_true", help="log more, on stderr")
        if name != "migrate":
            command.add_argument(
                "--on",
                type=Side,
                choices=list(Side),
                default=Side.SOURCE,
                metavar="SIDE",
                help="source (the default) or destination: which QEMU of the description",
            )
        if name != "inspect":
            command.add_argument(
                "--state-dir",
                type=Path,
                default=STATE_DIR,
                metavar="DIR",
                help=f"where locks are kept (default: {STATE_DIR})",
            )
    return parser


def _run(arguments: argparse.Namespace) -> int:
    vm = config.load(arguments.vm)
    if arguments.command == "inspect":
        seen = asyncio.run(_inspect(vm, arguments.on))
        print(inspect.as_json(seen) if arguments.json else inspect.as_text(seen))
        return 0
    goal = Goal(arguments.command)
    home = Side.SOURCE if goal is Goal.MIGRATE else arguments.on
    with vm_lock(arguments.state_dir, vm.name):
        outcome = asyncio.run(_drive(vm, goal, home))
    print((report.as_json if arguments.json else report.as_text)(vm, outcome))
    return report.exit_code(outcome)


def _endpoint(vm: Vm, side: Side) -> Endpoint:
    if side is Side.SOURCE:
        return vm.source
    if vm.destination is None:
        raise ConfigurationError(
            f"{vm.name}: its description has no [destination]",
            hint="add the table; guestagent-host --help shows an example",
        )
    return vm.destination.endpoint


def _hypervisor(vm: Vm, side: Side) -> Qemu:
    return Qemu(_endpoint(vm, side).qmp, side, timeout_s=vm.timeouts.command_s)


def _guest(vm: Vm, side: Side) -> AgentInGuest | None:
    """Return the ways to the guest's agent in their order, None where none is described."""
    endpoint = _endpoint(vm, side)
    ways: list[Way] = []
    witness: GuestAgent | None = None
    if endpoint.agent is not None:
        ways.append(ChannelWay(endpoint.agent))
    if endpoint.qga is not None:
        witness = GuestAgent(endpoint.qga, timeout_s=vm.timeouts.command_s)
        ways.append(ExecWay(witness))
    return AgentInGuest(ways, witness=witness) if ways else None


async def _inspect(vm: Vm, side: Side) -> inspect.Inspection:
    qga = _endpoint(vm, side).qga
    hypervisor = _hypervisor(vm, side)
    try:
        guest = None if qga is None else GuestAgent(qga, timeout_s=vm.timeouts.command_s)
        return await inspect.inspect(vm, hypervisor, guest)
    finally:
        await hypervisor.close()


async def _drive(vm: Vm, goal: Goal, home: Side) -> Outcome:
    sides = tuple(Side) if goal is Goal.MIGRATE else (home,)
    hypervisors: dict[Side, Hypervisor] = {side: _hypervisor(vm, side) for side in sides}
    view = ProgressView(vm.name, stream=sys.stderr, clock=time.monotonic, bar=sys.stderr.isatty())
    limits = Limits(
        unplug_requests=vm.timeouts.unplug_requests,
        attach_tries=vm.timeouts.attach_tries,
        guest_must_agree=vm.guest_must_agree,
    )
    guests: dict[Side, Guest] = {
        side: guest for side in sides if (guest := _guest(vm, side)) is not None
    }
    driver = Driver(vm, hypervisors, guests, observer=view, limits=limits, clock=time.monotonic)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, driver.cancel)
    try:
        return await driver.run(goal, home=home)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        for hypervisor in hypervisors.values():
            await hypervisor.close()


if __name__ == "__main__":
    sys.exit(main())
