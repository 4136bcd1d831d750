"""``undo`` and ``adopt``: take bonds apart, and bond the pairs again."""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from guestagent.clock import Deadline
from guestagent.errors import EXIT_DONE, BusyError, ConflictError
from guestagent.guest.cli.services import require_net_admin
from guestagent.json_fields import Obj

if TYPE_CHECKING:
    from guestagent.guest.cli.groups import Commands
    from guestagent.guest.core.plan import Plan

_UDEV_TIMEOUT_S = 10
_STARTS_WITHIN_S = 20


def add(commands: Commands) -> None:
    """Add the parsers."""
    undo = commands.add_parser(
        "undo",
        help="take the bonds apart and give the NICs their configuration back, live",
        description="Take the agent's bonds apart without losing the connection that this is"
        " typed over: addresses and routes go back to the virtio-net NIC, the VF is left down and"
        " unconfigured. The pairs then stay apart until the next boot or `guestagent adopt`. To"
        " keep a pair apart for good, put its MAC on the exclude list of the configuration."
        " Repeat it when it was interrupted.",
        epilog="example: guestagent undo --dry-run    shows the first steps, changing nothing",
    )
    undo.add_argument("--bond", metavar="NAME", help="a bond or a pair's MAC (default: all)")
    undo.add_argument("--dry-run", action="store_true", help="show the steps, change nothing")
    undo.add_argument("--json", action="store_true", help="print JSON")
    undo.set_defaults(command=_undo)
    adopt = commands.add_parser(
        "adopt",
        help="bond the pairs again that `undo` took apart",
        description="Bond the pairs again that `guestagent undo` took apart, as if their VF had"
        " just been plugged: live, and without loss while the VF is there.",
    )
    adopt.add_argument("--bond", metavar="NAME", help="a former bond or a MAC (default: all)")
    adopt.add_argument("--json", action="store_true", help="print JSON")
    adopt.set_defaults(command=_adopt)


def _undo(arguments: argparse.Namespace) -> int:
    if arguments.dry_run:
        return _show(_preview(arguments.bond), as_json=arguments.json)
    answer = _undone(arguments.bond)
    pairs = answer.objects("released")
    _trigger(name for pair in pairs for name in pair.strings("nics"))
    if arguments.json:
        print(json.dumps(answer.value, indent=2))
    else:
        for pair in pairs:
            bond = pair.optional_string("bond") or "no bond"
            print(f"{bond}  {pair.string('mac')}  taken apart: {', '.join(pair.strings('nics'))}")
        if not pairs:
            print("nothing to undo: the agent has no bond")
    refused = answer.strings("refused")
    if refused:
        raise ConflictError("; ".join(refused), hint="the other bonds were taken apart")
    return EXIT_DONE


def _undone(name: str | None) -> Obj:
    """Have the agent take pairs apart, or do so without one."""
    from guestagent.guest.api import client
    from guestagent.guest.state.lock import WriterLock

    writer, deadline = WriterLock(), Deadline.after(_STARTS_WITHIN_S)
    while True:
        try:
            return client.ask("undo", {"bond": name})
        except client.NotRunningError:
            require_net_admin()
        try:
            writer.take()
        except BusyError:
            # An agent that is starting or ending does not listen yet or any more.
            if deadline.expired:
                raise
            time.sleep(0.1)
            continue
        try:
            return _undo_alone(name)
        finally:
            writer.release()


def _undo_alone(name: str | None) -> Obj:
    from guestagent.guest.core.policy import Policy
    from guestagent.guest.reconcile.build import make_engine
    from guestagent.guest.reconcile.stability import Stability
    from guestagent.guest.service.undo import undo_without_agent
    from guestagent.guest.state.undone_pairs import UndonePairs

    # The kernel marks the agent's bonds: a broken configuration prevents no undo.
    policy, stability = Policy(), Stability()
    engine = make_engine(policy, stability)
    try:
        return Obj.of(dict(undo_without_agent(engine, stability, UndonePairs(), policy, name)))
    finally:
        engine.close()


def _preview(name: str | None) -> Plan:
    from guestagent.guest.core.policy import Policy
    from guestagent.guest.core.teardown import teardown
    from guestagent.guest.reconcile.build import look_once
    from guestagent.guest.service.undo import undo_targets

    policy = Policy()
    targets = undo_targets(look_once(policy).snapshot, policy, name)
    return teardown(look_once(policy, undone=lambda: targets.macs).snapshot)


def _show(plan: Plan, *, as_json: bool) -> int:
    from guestagent.guest.cli.status import print_plan

    print_plan(plan, as_json=as_json)
    return EXIT_DONE


def _adopt(arguments: argparse.Namespace) -> int:
    from guestagent.guest.api import client

    try:
        answer = client.ask("adopt", {"bond": arguments.bond})
    except client.NotRunningError:
        answer = _adopt_later(arguments.bond)
    if arguments.json:
        print(json.dumps(answer.value, indent=2))
        return EXIT_DONE
    for pair in answer.objects("pairs"):
        bond = pair.optional_string("bond") or "no bond"
        print(f"{bond}  {pair.string('mac')}  {pair.string('reason')}")
    return EXIT_DONE


def _adopt_later(name: str | None) -> Obj:
    from guestagent.guest.core.policy import Policy
    from guestagent.guest.reconcile.build import look_once
    from guestagent.guest.service.undo import adopt_targets, record_adopted
    from guestagent.guest.state.undone_pairs import UndonePairs

    macs = adopt_targets(look_once(Policy()).snapshot, name)
    record_adopted(UndonePairs(), macs)
    later = "bonded when the agent runs: systemctl start guestagent"
    return Obj.of({"pairs": [{"mac": mac, "bond": None, "reason": later} for mac in sorted(macs)]})


def _trigger(names: Iterable[str]) -> None:
    """Have udev process the NICs again: it may have marked them as ports.

    If that fails, udev processes them at the next boot.
    """
    paths = [f"/sys/class/net/{name}" for name in names if Path(f"/sys/class/net/{name}").exists()]
    if not paths:
        return
    command = ["udevadm", "trigger", "--action=change", "--settle", *paths]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_UDEV_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise ConflictError(
            f"the bonds are taken apart, but udev did not process the NICs again: {error}",
            hint=f"run it by hand: {' '.join(command)}",
        ) from error
