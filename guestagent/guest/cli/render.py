"""``render``: a static configuration that needs no agent."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from guestagent.errors import EXIT_DONE, ConflictError, GuestAgentError
from guestagent.guest.state.config import load

if TYPE_CHECKING:
    from guestagent.guest.cli.groups import Commands
    from guestagent.guest.core.policy import Policy
    from guestagent.guest.render.model import File

_TARGETS = ("networkd", "netplan", "networkmanager")


def add(commands: Commands) -> None:
    """Add the parser."""
    render = commands.add_parser(
        "render",
        help="write the present state as a static configuration that needs no agent",
        description="Print the files by which systemd-networkd, netplan or NetworkManager alone"
        " keep the pairs bonded, with the VF as primary and with the addresses, routes and name"
        " servers of now. Nothing is changed: to use them, remove the agent, put them in place"
        " and boot. What is lost with the agent: planned switches, the handshake with the host"
        " and the announcements after a migration.",
        epilog="example: guestagent render networkd --output static",
    )
    render.add_argument("target", choices=_TARGETS, help="whose files to write")
    render.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="write the files into this directory; one that exists is never overwritten",
    )
    render.set_defaults(command=_render)


def _render(arguments: argparse.Namespace) -> int:
    directory, files = _files(arguments.target, load(arguments.config))
    if arguments.output is None:
        print("\n".join(f"# {directory}/{file.name}\n{file.content}" for file in files), end="")
    else:
        _write(arguments.output, files)
        print(
            f"to use them: apt remove guestagent; cp -p {arguments.output}/* {directory}; reboot",
            file=sys.stderr,
        )
    return EXIT_DONE


def _files(target: str, policy: Policy) -> tuple[str, tuple[File, ...]]:
    from guestagent.guest.render import netplan, networkd, networkmanager
    from guestagent.guest.render.gather import gather, networkd_runs
    from guestagent.guest.render.model import Target

    pairs = gather(policy)
    match Target(target):
        case Target.NETWORKD:
            return networkd.DIRECTORY, tuple(networkd.files(pairs))
        case Target.NETPLAN:
            renderer = "networkd" if networkd_runs() else "NetworkManager"
            return netplan.DIRECTORY, tuple(netplan.files(pairs, renderer=renderer))
        case Target.NETWORKMANAGER:
            return networkmanager.DIRECTORY, tuple(networkmanager.files(pairs))


def _write(directory: Path, files: tuple[File, ...]) -> None:
    """Write all files or none. Raises ConflictError for one that exists."""
    present = [str(directory / file.name) for file in files if (directory / file.name).exists()]
    if present:
        raise ConflictError(
            f"{', '.join(present)} exists already and is not overwritten",
            hint="move it away, or name another directory",
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for file in files:
            path = directory / file.name
            path.touch(mode=0o600 if file.private else 0o644, exist_ok=False)
            path.write_text(file.content)
            print(path)
    except OSError as error:
        raise GuestAgentError(
            f"cannot write into {directory}: {error}", hint="name a directory that can be written"
        ) from error
