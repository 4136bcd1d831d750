"""``run``, ``early`` and ``hide``: the commands that the units start."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from guestagent.errors import EXIT_DONE, SystemLacksError
from guestagent.guest.state.config import EXAMPLE, load

if TYPE_CHECKING:
    from guestagent.guest.cli.groups import Commands

_CAP_NET_ADMIN = 12


def add(commands: Commands) -> None:
    """Add the parsers."""
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
    early.add_argument(
        "--udev-timeout",
        metavar="SECONDS",
        type=_seconds,
        default=2,
        help="how long to wait for udev to name the NICs (default: %(default)s); the unit's"
        " TimeoutStartSec must be two seconds longer",
    )
    early.set_defaults(command=_early)
    hide = commands.add_parser(
        "hide",
        help="hide VFs from cloud-init until it has finished (at a first boot)",
        description="Hide the VF of every pair in a network namespace of its own until cloud-init"
        " has finished, five minutes at most; then end, which gives them back. cloud-init fails"
        " on two NICs with one MAC address.",
    )
    hide.set_defaults(command=_hide)


def _run(arguments: argparse.Namespace) -> int:
    import asyncio

    from guestagent.guest.reconcile.build import make_engine
    from guestagent.guest.reconcile.stability import Stability
    from guestagent.guest.service import daemon
    from guestagent.guest.service.agent import Agent

    policy = load(arguments.config)
    require_net_admin()
    stability = Stability()
    agent = Agent(
        policy=policy, make_engine=lambda: make_engine(policy, stability), stability=stability
    )
    asyncio.run(daemon.run(agent))
    return EXIT_DONE


def _early(arguments: argparse.Namespace) -> int:
    from guestagent.guest.service.early import make_bonds

    policy = load(arguments.config)
    require_net_admin()
    make_bonds(policy, udev_timeout_s=arguments.udev_timeout)
    return EXIT_DONE


def _seconds(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of seconds")
    return int(text)


def _hide(arguments: argparse.Namespace) -> int:
    from guestagent.guest.service import first_boot

    policy = load(arguments.config)
    require_net_admin()
    first_boot.run(policy)
    return EXIT_DONE


def require_net_admin() -> None:
    """Raise SystemLacksError without CAP_NET_ADMIN: half a change would be worse than none."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff" and int(value, 16) >> _CAP_NET_ADMIN & 1:
            return
    raise SystemLacksError(
        "no permission to change the network (CAP_NET_ADMIN)",
        hint="run it as root, or start it as the service: systemctl start guestagent",
    )
