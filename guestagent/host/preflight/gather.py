"""Queries both QEMUs, the VFs of their hosts and the guest for ``check``; changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from guestagent.errors import GuestAgentError, PeerError, UnknownOutcomeError
from guestagent.findings import Finding
from guestagent.host.hypervisor.base import Guest, Hypervisor
from guestagent.host.model import End
from guestagent.host.preflight.findings import EndFacts, PreflightFacts
from guestagent.host.sriov.base import VfPool


async def gather_facts(
    hypervisors: Mapping[End, Hypervisor],
    guest: Guest | None,
    pools: Mapping[End, VfPool],
    *,
    other_operation: Finding | None = None,
) -> PreflightFacts:
    """Query everything; a failed query is part of the facts."""
    ends = await asyncio.gather(
        *(
            _facts_of_end(hypervisors[end], pools.get(end))
            for end in sorted(hypervisors, reverse=True)
        )
    )
    by_end = {facts.view.end: facts for facts in ends}
    source = by_end[End.SOURCE]
    pairs, silent = None, None
    if guest is not None and source.view.running:
        try:
            pairs = await guest.pairs()
        except (PeerError, UnknownOutcomeError) as error:
            silent = str(error)
    return PreflightFacts(
        source=source,
        destination=by_end.get(End.DESTINATION),
        guest=pairs,
        guest_silent=silent,
        other_operation=other_operation,
    )


async def _facts_of_end(hypervisor: Hypervisor, pool: VfPool | None) -> EndFacts:
    view = await hypervisor.look()
    if view.unreachable is not None:
        return EndFacts(view=view)
    unknown: list[str] = []
    topology = means = inventory = None
    try:
        topology = await hypervisor.topology()
        means = await hypervisor.capabilities()
    except (PeerError, UnknownOutcomeError) as error:
        unknown.append(str(error))
    try:
        inventory = None if pool is None else await pool.inventory()
    except GuestAgentError as error:
        unknown.append(f"{view.end}: its VFs could not be listed: {error}")
    return EndFacts(
        view=view, topology=topology, means=means, inventory=inventory, unknown=tuple(unknown)
    )
