"""``guestagent``: the command line of the agent."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from guestagent import __version__, log
from guestagent.errors import EXIT_DONE, GuestAgentError, SystemLacksError
from guestagent.guest.config import CONFIGURATION, EXAMPLE, load

# Each command loads what it needs: the one at boot is on everybody's way.
if TYPE_CHECKING:
    from guestagent.guest.status import Status

    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_DESCRIPTION = """\
Keeps each pair of a virtio-net NIC and an SR-IOV virtual function (VF) that
share a permanent MAC in an active-backup bond: traffic takes the VF while it
is there and the virtio-net NIC while it is not.
"""
_EPILOG = """\
examples:
  guestagent status            which port carries each pair, and why
  guestagent plan              what the agent would do now, changing nothing
  journalctl -u guestagent     what it did

exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 75 try again later
"""
_CAP_NET_ADMIN = 12


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    arguments = _parser().parse_args(argv)
    log.setup(verbose=arguments.verbose)
    try:
        code: int = arguments.command(arguments)
    except GuestAgentError as error:
        print(f"guestagent: {error}", file=sys.stderr)
        if error.hint is not None:
            print(f"  → {error.hint}", file=sys.stderr)
        return error.exit_code
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="guestagent",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"guestagent {__version__}")
    parser.add_argument("--verbose", action="store_true", help="log debugging details as well")
    parser.add_argument(
        "--config",
        type=Path,
        default=CONFIGURATION,
        metavar="FILE",
        help="configuration file (default: %(default)s, which need not exist)",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_services(commands)
    _add_views(commands)
    _add_switches(commands)
    return parser


def _add_services(commands: _Commands) -> None:
    run = commands.add_parser(
        "run",
        help="run the agent (what guestagent.service does)",
        description="Watch the NICs and keep every pair bonded until stopped. Stopping it leaves"
        " the bonds as they are.",
        epilog=f"configuration:\n{EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.set_defaults(command=_run)
    early = commands.add_parser(
        "early",
        help="make the bonds once, before the network is configured (at boot)",
        description="Make the bond of every pair that is present or was seen before, then end.",
    )
    early.set_defaults(command=_early)


def _add_views(commands: _Commands) -> None:
    show = commands.add_parser(
        "status",
        help="show every pair, its ports and which one is active",
        description="Show every pair, its ports, which one is active and why. Asks the running"
        " agent; without one it looks for itself.",
    )
    show.add_argument("--json", action="store_true", help="print the versioned JSON form")
    show.set_defaults(command=_status)
    plan = commands.add_parser(
        "plan",
        help="show what the agent would do now, changing nothing",
        description="Show the actions that would bring every pair to its wanted state, with the"
        " reason for each, and what is left alone. Use it before changing the configuration:"
        " guestagent --config NEW.toml plan",
    )
    plan.add_argument("--json", action="store_true", help="print JSON")
    plan.set_defaults(command=_plan)


def _add_switches(commands: _Commands) -> None:
    switch = commands.add_parser(
        "switch",
        help="move the traffic to the standby for a while, or back, without loss",
        description="Move the traffic of the pairs between their ports without losing a packet."
        " `standby` is a hold: it ends by itself, can be renewed by asking again and survives a"
        " restart of the agent. `auto` ends the hold: the VF carries again where there is one."
        " `vf` does the same and fails where the VF does not take over.",
        epilog="example: guestagent switch standby --hold 60    before the host takes the VF away",
    )
    switch.add_argument("to", choices=("standby", "vf", "auto"), help="where the traffic goes")
    switch.add_argument("--bond", metavar="NAME", help="a bond or a pair's MAC (default: all)")
    switch.add_argument(
        "--hold",
        type=float,
        metavar="SECONDS",
        help="how long `standby` lasts at most (default: 120)",
    )
    switch.add_argument("--json", action="store_true", help="print JSON")
    switch.set_defaults(command=_switch)
    announce = commands.add_parser(
        "announce",
        help="tell the network where the addresses of the pairs are now",
        description="Send gratuitous ARP and unsolicited neighbour advertisements for every"
        " address of the bonds and of the VLANs above them. The agent does so by itself after"
        " every switch and every migration.",
    )
    announce.add_argument("--bond", metavar="NAME", help="a bond or a pair's MAC (default: all)")
    announce.set_defaults(command=_announce)
    ask = commands.add_parser(
        "ask",
        help="pass one request line from stdin to the agent and print its answer",
        description="Pass one request of the agent's protocol, a JSON object on one line, from"
        " stdin to the running agent and print its answer. The host does so through qemu-ga"
        " where there is no channel of the agent's own.",
        epilog='example: echo \'{"v": 1, "request": "status"}\' | guestagent ask',
    )
    ask.set_defaults(command=_ask)


def _run(arguments: argparse.Namespace) -> int:
    import asyncio

    from guestagent.guest.daemon import Daemon
    from guestagent.guest.wiring import make_engine, make_moments

    policy = load(arguments.config)
    _require_net_admin()
    moments = make_moments()
    daemon = Daemon(
        policy=policy, make_engine=lambda: make_engine(policy, moments), moments=moments
    )
    asyncio.run(daemon.run())
    return EXIT_DONE


def _early(arguments: argparse.Namespace) -> int:
    from guestagent.guest.early import make_bonds

    policy = load(arguments.config)
    _require_net_admin()
    make_bonds(policy)
    return EXIT_DONE


def _status(arguments: argparse.Namespace) -> int:
    from guestagent.guest import client
    from guestagent.guest.status import Status
    from guestagent.jsontype import JsonError

    try:
        report = Status.from_json(client.ask("status"))
    except client.NotRunningError as error:
        report = _own_status(arguments, str(error))
    except JsonError as error:
        raise GuestAgentError(
            f"the running agent speaks another version: {error}",
            hint="restart it: systemctl restart guestagent",
        ) from error
    print(json.dumps(report.as_json(), indent=2) if arguments.json else report.as_text())
    return EXIT_DONE


def _own_status(arguments: argparse.Namespace, why: str) -> Status:
    from guestagent.guest.status import status
    from guestagent.guest.wiring import look_once

    policy = load(arguments.config)
    outcome = look_once(policy)
    return status(outcome.snapshot, policy, outcome.plan, agent=why)


def _plan(arguments: argparse.Namespace) -> int:
    from guestagent.guest.actions import describe
    from guestagent.guest.wiring import look_once

    plan = look_once(load(arguments.config)).plan
    if arguments.json:
        print(json.dumps(plan.as_json(), indent=2))
        return EXIT_DONE
    for number, action in enumerate(plan.actions, 1):
        print(f"{number:3}. {describe(action)}  ({action.reason})")
    for text in plan.waiting:
        print(f"waiting: {text}")
    for item in plan.refusals:
        print(f"left alone: {item.mac} ({', '.join(item.links)}): {item.reason}\n  → {item.hint}")
    if not plan.actions and not plan.waiting:
        print("nothing to do")
    return EXIT_DONE


def _switch(arguments: argparse.Namespace) -> int:
    from guestagent.guest import client

    asked = {"to": arguments.to, "bond": arguments.bond, "hold_s": arguments.hold}
    result = client.ask("switch", asked)
    if arguments.json:
        print(json.dumps(result.value, indent=2))
    else:
        for pair in result.objects("pairs"):
            print(f"{pair.optional_string('bond')}  {pair.string('mac')}  {pair.string('reason')}")
    return EXIT_DONE


def _announce(arguments: argparse.Namespace) -> int:
    from guestagent.guest import client

    result = client.ask("announce", {"bond": arguments.bond})
    print(f"announced: {result.integer('frames')} frames at once, repeats follow")
    return EXIT_DONE


def _ask(_: argparse.Namespace) -> int:
    from guestagent.guest import client
    from guestagent.wire import MAX_LINE_BYTES

    answer = client.exchange(sys.stdin.buffer.readline(MAX_LINE_BYTES).rstrip(b"\n") + b"\n")
    sys.stdout.buffer.write(answer)
    return EXIT_DONE


def _require_net_admin() -> None:
    """Raise SystemLacksError without CAP_NET_ADMIN: half a change would be worse than none."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff" and int(value, 16) >> _CAP_NET_ADMIN & 1:
            return
    raise SystemLacksError(
        "no permission to change the network (CAP_NET_ADMIN)",
        hint="run it as root, or start it as the service: systemctl start guestagent",
    )


if __name__ == "__main__":
    sys.exit(main())
