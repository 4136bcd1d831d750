"""Asks both sides, the hosts' VFs and the guest for what ``preflight`` judges; changes nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from guestagent.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    GuestAgentError,
    PeerError,
    UnknownOutcomeError,
)
from guestagent.host.findings import Facts, Finding, Grade, SideFacts
from guestagent.host.hypervisor.base import Guest, Hypervisor
from guestagent.host.model import Side, Vm
from guestagent.host.progress import coloured
from guestagent.host.sriov.base import VfPool
from guestagent.host.state import Problem

JSON_VERSION = 1
_COLOURS = {Grade.FINE: 32, Grade.WARNING: 33, Grade.WRONG: 31}


async def facts_of(
    hypervisors: Mapping[Side, Hypervisor],
    guest: Guest | None,
    pools: Mapping[Side, VfPool],
    *,
    other_operation: Problem | None = None,
) -> Facts:
    """Look at everything."""
    sides = await asyncio.gather(
        *(_side(hypervisors[side], pools.get(side)) for side in sorted(hypervisors, reverse=True))
    )
    by_side = {facts.view.side: facts for facts in sides}
    source = by_side[Side.SOURCE]
    pairs, silent = None, None
    if guest is not None and source.view.running:
        try:
            pairs = await guest.pairs()
        except (PeerError, UnknownOutcomeError) as error:
            silent = str(error)
    return Facts(
        source=source,
        destination=by_side.get(Side.DESTINATION),
        guest=pairs,
        guest_silent=silent,
        other_operation=other_operation,
    )


async def _side(hypervisor: Hypervisor, pool: VfPool | None) -> SideFacts:
    view = await hypervisor.look()
    if view.unreachable is not None:
        return SideFacts(view=view)
    unknown: list[str] = []
    topology = means = inventory = None
    try:
        topology = await hypervisor.topology()
        means = await hypervisor.means()
    except (PeerError, UnknownOutcomeError) as error:
        unknown.append(str(error))
    try:
        inventory = None if pool is None else await pool.inventory()
    except GuestAgentError as error:
        unknown.append(f"{view.side}: its VFs are not known: {error}")
    return SideFacts(
        view=view, topology=topology, means=means, inventory=inventory, unknown=tuple(unknown)
    )


def exit_code(findings: tuple[Finding, ...]) -> int:
    """Return 1 when anything is wrong."""
    bad = any(finding.grade is Grade.WRONG for finding in findings)
    return EXIT_FAILED if bad else EXIT_DONE


def as_json(vm: Vm, findings: tuple[Finding, ...]) -> str:
    """Return the findings for programs; an interface, see ``report``."""
    document = {
        "version": JSON_VERSION,
        "command": "check",
        "vm": vm.name,
        "exit_code": exit_code(findings),
        "findings": [
            {
                "subject": finding.subject,
                "grade": finding.grade,
                "what": finding.what,
                "hint": finding.hint,
            }
            for finding in findings
        ],
    }
    return json.dumps(document, indent=2)


def as_text(vm: Vm, findings: tuple[Finding, ...]) -> str:
    """Return the findings for people, what is wrong last, where it is seen."""
    lines = []
    for grade in Grade:
        for finding in findings:
            if finding.grade is grade:
                word = coloured(f"{grade:<8}", _COLOURS[grade])
                lines.append(f"{word} {finding.subject:<14} {finding.what}")
                lines += [f"{'':<24}what to do: {finding.hint}"] if finding.hint else []
    count = sum(finding.grade is Grade.WRONG for finding in findings)
    end = "nothing is in the way of a migration" if not count else f"{count} in the way"
    return "\n".join([*lines, f"{vm.name}: {end}"])
