"""The program ``guestagent-host``."""

from __future__ import annotations

import argparse
import asyncio
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from guestagent import __version__, log
from guestagent.errors import EXIT_DONE, EXIT_FAILED, GuestAgentError, SystemLacksError
from guestagent.host import model
from guestagent.host.cli import vf as vf_commands
from guestagent.host.config import description
from guestagent.host.hypervisor import connect
from guestagent.host.hypervisor.base import Hypervisor
from guestagent.host.migration.state import Goal, Order
from guestagent.host.model import End, Vm
from guestagent.host.remote.client import remote_destination, remote_of, ssh_command
from guestagent.host.remote.server import serve_stdio
from guestagent.host.report import check, inspect, result, timeline
from guestagent.host.report.progress import ProgressView
from guestagent.host.run import operation
from guestagent.host.run.driver import OperationResult
from guestagent.host.store import journal

_DESCRIPTION = """\
Unplugs the virtual function of a VM before its live migration and plugs one at
the destination. The VM is described in a TOML file, shown below.
"""

_COMMANDS = {
    "inspect": "show every NIC with its PCI address in the guest, and the free ports",
    "check": "report everything that prevents a migration, and what to do; changes nothing",
    "detach": "unplug the VFs: the guest continues on its standby NICs",
    "attach": "plug the described VFs that the guest does not have",
    "migrate": "detach, migrate, attach at the destination; undo all on failure",
    "prepare": "the part of migrate before the memory moves; then migrate with your own tool",
    "complete": "the part after it: plug the VFs at the destination",
    "rollback": "undo prepare: the guest that stayed gets its VFs back",
    "report": "show the timeline of the last operation on a VM, from its journal",
    "recover": "finish or undo an interrupted command; a second time changes nothing",
}

_EPILOG = f"""\
what migrate does, in order:
  check    nothing is begun while anything prevents the migration
  prepare  query both QEMUs: the guest runs here, the other one waits for it
  switch   ask the agent in the guest to leave the VF: no packet is lost then
  detach   ask the guest to release each VF and wait until it has gone
  launch, migrate
           move the memory; Ctrl-C cancels, and the VFs come back
  decide   query both QEMUs where the guest is now
  attach   plug the VFs of the destination
  confirm  wait until the agent confirms that the guest uses them
  After a failure at any point one guest runs, with its VFs if possible.
  No process is ever killed. If the outcome cannot be proved, nothing is changed
  and the answers of both QEMUs are shown.
  Each step is recorded before it begins. When this program is killed, the next
  command on the VM is refused until recover has finished or undone it.

with your own migration, in place of migrate:
  prepare   everything up to detach
  then      let QEMU or your tool migrate the guest and let it run
  complete  attach and confirm; or rollback if it did not migrate
  Both exit with 75 while the guest does not run where they need it.

exit codes:
  0  done, also if the destination describes no VF     1  failed, or unknown
  2  wrong usage or description                        75 try again later

example of a VM description:

{textwrap.indent(description.EXAMPLE, "  ")}"""


_WITH_DEST = {"inspect", "check", "detach", "attach", "migrate", "prepare"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    arguments = _parser().parse_args(argv)
    log.setup(verbose=arguments.verbose)
    try:
        return _run(arguments)
    except GuestAgentError as error:
        if getattr(arguments, "json", False):
            print(result.error_as_json(arguments.command, error))
        hint = f"\n  what to do: {error.hint}" if error.hint else ""
        sys.stderr.write(f"guestagent-host: {error}{hint}\n")
        return error.exit_code
    except KeyboardInterrupt:  # outside a command, which handles the signal itself
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
        _add_options(command, name)
    vf_commands.add_parser(commands)
    serve = commands.add_parser(
        "serve",
        help="serve as the far end of a migration; started over ssh by another guestagent-host",
        description="Performs the requests of another guestagent-host on stdin.",
    )
    serve.add_argument("--state-dir", type=Path, default=description.STATE_DIR, metavar="DIR")
    serve.add_argument("--verbose", action="store_true", help="log more, on stderr")
    return parser


def _add_options(command: argparse.ArgumentParser, name: str) -> None:
    command.add_argument("vm", metavar="VM.toml", type=Path, help="the VM's description")
    command.add_argument(
        "--json", action="store_true", help="print one JSON object on stdout at the end"
    )
    command.add_argument("--verbose", action="store_true", help="log more, on stderr")
    if name == "recover":
        command.add_argument(
            "--forget",
            action="store_true",
            help="end it without querying anything: after a repair by hand",
        )
    elif name == "report":
        _add_report_options(command)
    elif name in {"inspect", "detach", "attach"}:
        command.add_argument(
            "--on",
            type=End,
            choices=list(End),
            default=End.SOURCE,
            metavar="SIDE",
            help="source (the default) or destination: which QEMU of the description",
        )
    if name in _WITH_DEST:
        command.add_argument(
            "--dest",
            metavar="ssh://HOST",
            help="the destination's host, in place of the description's: QEMU, guest and VFs"
            " there (with --on destination where that is an option) are reached through"
            " guestagent-host on it",
        )
    if name == "migrate":
        _add_migration_options(command)
    if name != "inspect":
        command.add_argument(
            "--state-dir",
            type=Path,
            default=description.STATE_DIR,
            metavar="DIR",
            help=f"where locks and journals are kept (default: {description.STATE_DIR})",
        )


def _add_report_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--operation", type=_positive, metavar="N", help="another operation; the last 16 are kept"
    )
    command.add_argument("--svg", type=Path, metavar="FILE", help="write a picture as well")


def _report(vm: Vm, arguments: argparse.Namespace) -> int:
    directory = arguments.state_dir / vm.name
    kept = tuple(journal.operations(directory))
    chosen = arguments.operation or (kept[-1] if kept else 0)
    line = timeline.timeline(journal.operation(directory, chosen))
    if arguments.svg is not None:
        try:
            arguments.svg.write_text(timeline.as_svg(vm.name, line), encoding="utf-8")
        except OSError as error:
            raise SystemLacksError(
                f"{arguments.svg}: {error.strerror}", hint="name a file that can be written"
            ) from error
    text = timeline.as_json(vm.name, line, kept) if arguments.json else None
    print(text or timeline.as_text(vm.name, line))
    return EXIT_DONE


def _add_migration_options(command: argparse.ArgumentParser) -> None:
    """Add the options that override a key of [migration]."""
    group = command.add_argument_group("in place of the description's [migration]")
    for option, most, metavar, text in (
        ("--bandwidth", model.MOST_BANDWIDTH_MIB_PER_S, "MIB", "MiB/s at most"),
        ("--downtime", model.MOST_DOWNTIME_MS, "MS", "limit of the stop, ms"),
        ("--multifd", model.MOST_CHANNELS, "N", "connections in parallel"),
    ):
        group.add_argument(option, type=partial(_positive, most=most), metavar=metavar, help=text)
    group.add_argument("--postcopy", action="store_true", default=None, help="run there early")
    group.add_argument(
        "--auto-converge", action="store_true", default=None, help="slow a busy guest down"
    )


def _positive(text: str, *, most: int | None = None) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    if most is not None and int(text) > most:
        raise argparse.ArgumentTypeError(f"{text} is more than QEMU takes: {most}")
    return int(text)


def _with_options(vm: Vm, arguments: argparse.Namespace) -> Vm:
    given = {
        "bandwidth_limit_mib_per_s": arguments.bandwidth,
        "downtime_limit_ms": arguments.downtime,
        "multifd_channels": arguments.multifd,
        "postcopy": arguments.postcopy,
        "auto_converge": arguments.auto_converge,
    }
    chosen = {key: value for key, value in given.items() if value is not None}
    return replace(vm, migration=replace(vm.migration, **chosen))


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "vf":
        return vf_commands.run(arguments)
    if arguments.command == "serve":
        asyncio.run(serve_stdio(arguments.state_dir))
        return EXIT_DONE
    vm = description.load(arguments.vm)
    if arguments.command in _WITH_DEST and arguments.dest is not None:
        ssh_command(arguments.dest)
        vm = vm.with_destination_host(arguments.dest)
    match arguments.command:
        case "inspect":
            seen = asyncio.run(_inspect(vm, arguments.on))
            print(inspect.as_json(seen) if arguments.json else inspect.as_text(seen))
            return EXIT_DONE
        case "report":
            return _report(vm, arguments)
        case "check":
            findings = operation.check(vm, arguments.state_dir)
            print((check.as_json if arguments.json else check.as_text)(vm, findings))
            return check.exit_code(findings)
        case "recover" if arguments.forget:
            forgotten = operation.forget(vm, arguments.state_dir)
            print(result.brief(vm, "forgotten" if forgotten else "nothing", json=arguments.json))
            return EXIT_DONE
    if arguments.command == "migrate":
        vm = _with_options(vm, arguments)
    outcome = _operate(vm, arguments)
    if outcome is None:
        print(result.brief(vm, "nothing", json=arguments.json))
        return EXIT_DONE
    print((result.as_json if arguments.json else result.as_text)(vm, outcome, arguments.command))
    return result.exit_code(outcome)


def _operate(vm: Vm, arguments: argparse.Namespace) -> OperationResult | None:
    """Run a command that changes something; None if there was nothing to recover."""
    state_dir: Path = arguments.state_dir
    view = ProgressView(vm.name, stream=sys.stderr, clock=time.monotonic, bar=sys.stderr.isatty())
    operate = partial(operation.operate, vm, state_dir=state_dir, observer=view)
    match arguments.command:
        case "recover":
            return operation.recover(vm, state_dir, observer=view)
        case "complete" | "rollback" as wanted:
            return operation.order(vm, Order(wanted), state_dir, observer=view)
        case "prepare":
            return operate(Goal.MIGRATE, End.SOURCE, orchestrated=True)
        case "migrate":
            return operate(Goal.MIGRATE, End.SOURCE)
        case name:
            return operate(Goal(name), arguments.on)


async def _inspect(vm: Vm, end: End) -> inspect.Inspection:
    far = remote_of(vm) if end is End.DESTINATION else None
    hypervisor: Hypervisor = connect.hypervisor(vm, end)
    if far is not None:
        hypervisor = remote_destination(far)
    try:
        guest = None if far is not None else connect.qemu_ga(vm, end)
        return await inspect.inspect(vm, hypervisor, guest)
    finally:
        await hypervisor.close()


if __name__ == "__main__":
    sys.exit(main())
