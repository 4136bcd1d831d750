"""Asks both sides, the hosts' VFs and the guest for what ``preflight`` judges; changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from guestagent.errors import (
    GuestAgentError,
    PeerError,
    UnknownOutcomeError,
)
from guestagent.host.hypervisor.base import Guest, Hypervisor
from guestagent.host.migration.state import Problem
from guestagent.host.model import Side
from guestagent.host.preflight.findings import Facts, SideFacts
from guestagent.host.sriov.base import VfPool


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
