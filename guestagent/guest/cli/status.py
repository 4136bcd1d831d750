"""``status``, ``metrics`` and ``plan``: the present state and the next steps, read only."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from guestagent.errors import EXIT_DONE, GuestAgentError
from guestagent.guest.state.config import load

if TYPE_CHECKING:
    from guestagent.guest.cli.groups import Commands
    from guestagent.guest.core.plan import Plan
    from guestagent.guest.report.status import Status


def add(commands: Commands) -> None:
    """Add the parsers."""
    show = commands.add_parser(
        "status",
        help="show every pair, its ports and which one is active",
        description="Show every pair, its ports, which one is active and why. Asks the running"
        " agent; without one it observes the system on its own. With --watch it shows the status"
        " again at every change, until Ctrl-C. Colour is for terminals, and off where NO_COLOR is"
        " set.",
    )
    show.add_argument("--json", action="store_true", help="print the versioned JSON form")
    show.add_argument("--watch", action="store_true", help="show it again at every change")
    show.set_defaults(command=_status)
    metrics = commands.add_parser(
        "metrics",
        help="print the status as Prometheus metrics",
        description="Print the status in the text format of Prometheus. For node_exporter's"
        " textfile collector, let a timer run it with --output, which replaces the file as a"
        " whole.",
        epilog="example: guestagent metrics --output"
        " /var/lib/prometheus/node-exporter/guestagent.prom",
    )
    metrics.add_argument("--output", type=Path, metavar="FILE", help="write into this file")
    metrics.set_defaults(command=_metrics)
    plan = commands.add_parser(
        "plan",
        help="show what the agent would do now, changing nothing",
        description="Show the actions that would bring every pair to its wanted state, with the"
        " reason for each, and what is left alone. Use it before changing the configuration:"
        " guestagent plan --config NEW.toml",
    )
    plan.add_argument(
        "--config",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="show what another configuration would do",
    )
    plan.add_argument("--json", action="store_true", help="print JSON")
    plan.set_defaults(command=_plan)


def _status(arguments: argparse.Namespace) -> int:
    from guestagent.guest.report.watch import Watch, ask_status

    def own(why: str) -> Status:
        return _own_status(arguments, why)

    if arguments.watch:
        Watch(ask=ask_status, own=own, show=_show_json if arguments.json else _show_text).run()
        return EXIT_DONE
    report = _report(arguments)
    print(json.dumps(report.as_json(), indent=2) if arguments.json else _text(report))
    return EXIT_DONE


def _metrics(arguments: argparse.Namespace) -> int:
    from guestagent.guest.report.metrics import as_prometheus
    from guestagent.guest.state.atomic_file import write_whole

    text = as_prometheus(_report(arguments))
    if arguments.output is None:
        print(text, end="")
        return EXIT_DONE
    try:
        write_whole(arguments.output, text)
    except OSError as error:
        raise GuestAgentError(
            f"cannot write {arguments.output}: {error}",
            hint="its directory must exist and be writable",
        ) from error
    return EXIT_DONE


def _report(arguments: argparse.Namespace) -> Status:
    """Return the running agent's status, or the result of an observation without one."""
    from guestagent.guest.api.client import NotRunningError
    from guestagent.guest.report.watch import ask_status

    try:
        return ask_status()
    except NotRunningError as error:
        return _own_status(arguments, str(error))


def _show_json(report: Status) -> None:
    """Print one line, at once: a reader in a pipe must not wait for the next."""
    print(json.dumps(report.as_json()), flush=True)


def _show_text(report: Status) -> None:
    """Draw over the last report on a terminal, print below it elsewhere."""
    lead = "\x1b[H\x1b[J" if sys.stdout.isatty() else ""
    print(f"{lead}{_text(report)}\n", flush=True)


def _text(report: Status) -> str:
    from guestagent.guest.report.text import ansi, as_text, plain

    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    dumb = os.environ.get("TERM", "dumb") == "dumb"
    return as_text(report, ansi if coloured and not dumb else plain)


def _own_status(arguments: argparse.Namespace, why: str) -> Status:
    from guestagent.guest.reconcile.build import look_once
    from guestagent.guest.report.status import status

    policy = load(arguments.config)
    result = look_once(policy)
    return status(result.snapshot, policy, result.plan, agent=why)


def _plan(arguments: argparse.Namespace) -> int:
    from guestagent.guest.reconcile.build import look_once

    print_plan(look_once(load(arguments.config)).plan, as_json=arguments.json)
    return EXIT_DONE


def print_plan(plan: Plan, *, as_json: bool) -> None:
    """Print a plan for people or as JSON."""
    if as_json:
        print(json.dumps(plan.as_json(), indent=2))
        return
    for number, action in enumerate(plan.actions, 1):
        print(f"{number:3}. {action}  ({action.reason})")
    for text in plan.waiting:
        print(f"waiting: {text}")
    for item in plan.refusals:
        print(f"left alone: {item.mac} ({', '.join(item.links)}): {item.reason}\n  → {item.hint}")
    if not plan.actions and not plan.waiting:
        print("nothing to do")
