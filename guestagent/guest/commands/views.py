"""``status`` and ``plan``: what is there and what would be done, changing nothing."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from guestagent.errors import EXIT_DONE, GuestAgentError
from guestagent.guest.config import load

if TYPE_CHECKING:
    from guestagent.guest.commands import Commands
    from guestagent.guest.plan import Plan
    from guestagent.guest.status import Status


def add(commands: Commands) -> None:
    """Add the parsers."""
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
    from guestagent.guest.wiring import look_once

    print_plan(look_once(load(arguments.config)).plan, as_json=arguments.json)
    return EXIT_DONE


def print_plan(plan: Plan, *, as_json: bool) -> None:
    """Print a plan for people or as JSON."""
    from guestagent.guest.actions import describe

    if as_json:
        print(json.dumps(plan.as_json(), indent=2))
        return
    for number, action in enumerate(plan.actions, 1):
        print(f"{number:3}. {describe(action)}  ({action.reason})")
    for text in plan.waiting:
        print(f"waiting: {text}")
    for item in plan.refusals:
        print(f"left alone: {item.mac} ({', '.join(item.links)}): {item.reason}\n  → {item.hint}")
    if not plan.actions and not plan.waiting:
        print("nothing to do")
