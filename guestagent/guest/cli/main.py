"""``guestagent``: the command line of the agent."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from guestagent import __version__, log
from guestagent.errors import GuestAgentError
from guestagent.guest.state.config import CONFIGURATION

if TYPE_CHECKING:
    from guestagent.guest.cli.groups import Commands

_DESCRIPTION = """\
Keeps each pair of a virtio-net NIC and an SR-IOV virtual function (VF) that
share a permanent MAC in an active-backup bond: traffic takes the VF while it
is there and the virtio-net NIC while it is not.
"""
_EPILOG = """\
examples:
  guestagent status            which port carries each pair, and why
  guestagent plan              what the agent would do now, changing nothing
  guestagent doctor            what would go wrong, and what to do about it
  journalctl -u guestagent     what it did

exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 75 try again later
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    words = sys.argv[1:] if argv is None else argv
    arguments = _parser(*words[:1]).parse_args(words)
    log.setup(verbose=arguments.verbose)
    try:
        code: int = arguments.command(arguments)
    except GuestAgentError as error:
        print(f"guestagent: {error}", file=sys.stderr)
        if error.hint is not None:
            print(f"  → {error.hint}", file=sys.stderr)
        return error.exit_code
    return code


def _parser(first: str = "") -> argparse.ArgumentParser:
    """Return the parser for a command line that begins with ``first``, else for all commands."""
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
    for add in _groups(first):
        add(commands)
    return parser


def _groups(first: str) -> tuple[Callable[[Commands], None], ...]:
    """Return the functions that add commands: one group if the first word names its command.

    The boot waits for one command and scripts for others: the rest is not imported.
    """
    match first:
        case "run" | "early" | "hide":
            from guestagent.guest.cli.services import add as services

            return (services,)
        case "status" | "metrics" | "plan":
            from guestagent.guest.cli.status import add as views

            return (views,)
        case "doctor":
            from guestagent.guest.cli.doctor import add as doctor

            return (doctor,)
        case "switch" | "announce" | "ask":
            from guestagent.guest.cli.switch import add as switches

            return (switches,)
        case "undo" | "adopt":
            from guestagent.guest.cli.undo import add as undoing

            return (undoing,)
        case "render":
            from guestagent.guest.cli.render import add as render

            return (render,)
    firsts = ("run", "status", "doctor", "switch", "undo", "render")
    return tuple(add for name in firsts for add in _groups(name))


if __name__ == "__main__":
    sys.exit(main())
