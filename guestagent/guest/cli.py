"""``guestagent``: the command line of the agent."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from guestagent import __version__, log
from guestagent.errors import GuestAgentError
from guestagent.guest.config import CONFIGURATION

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
    arguments = _parser(at_boot=words[:1] == ["early"]).parse_args(words)
    log.setup(verbose=arguments.verbose)
    try:
        code: int = arguments.command(arguments)
    except GuestAgentError as error:
        print(f"guestagent: {error}", file=sys.stderr)
        if error.hint is not None:
            print(f"  → {error.hint}", file=sys.stderr)
        return error.exit_code
    return code


def _parser(*, at_boot: bool = False) -> argparse.ArgumentParser:
    """Return the parser; the boot waits for one command, and nothing is loaded for the others."""
    from guestagent.guest.commands import services

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
    services.add(commands)
    if not at_boot:
        from guestagent.guest.commands import doctor, render, switches, undoing, views

        for group in (views, doctor, switches, undoing, render):
            group.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
