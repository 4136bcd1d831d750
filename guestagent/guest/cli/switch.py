"""``switch``, ``announce`` and ``ask``: requests to the running agent."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from guestagent.errors import EXIT_DONE

if TYPE_CHECKING:
    from guestagent.guest.cli.groups import Commands


def add(commands: Commands) -> None:
    """Add the parsers."""
    switch = commands.add_parser(
        "switch",
        help="move the traffic to the standby for a while, or back, without loss",
        description="Move the traffic of the pairs between their ports without losing a packet."
        " `standby` is a hold: it expires, can be renewed by another request and survives a"
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
        " address of the bonds and of the VLANs above them. The agent does so on its own after"
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


def _switch(arguments: argparse.Namespace) -> int:
    from guestagent.guest.api import client

    asked = {"to": arguments.to, "bond": arguments.bond, "hold_s": arguments.hold}
    result = client.ask("switch", asked)
    if arguments.json:
        print(json.dumps(result.value, indent=2))
    else:
        for pair in result.objects("pairs"):
            print(f"{pair.optional_string('bond')}  {pair.string('mac')}  {pair.string('reason')}")
    return EXIT_DONE


def _announce(arguments: argparse.Namespace) -> int:
    from guestagent.guest.api import client

    result = client.ask("announce", {"bond": arguments.bond})
    print(f"announced: {result.integer('frames')} frames at once, repeats follow")
    return EXIT_DONE


def _ask(_: argparse.Namespace) -> int:
    from guestagent.guest.api import client
    from guestagent.protocol import MAX_LINE_BYTES

    answer = client.exchange(sys.stdin.buffer.readline(MAX_LINE_BYTES).rstrip(b"\n") + b"\n")
    sys.stdout.buffer.write(answer)
    return EXIT_DONE
