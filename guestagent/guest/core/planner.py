"""Planning: from a snapshot and the policy to an ordered list of actions. Pure.

The plan of a converged system is empty, and applying any prefix of a plan and planning again
leads to the same end: a plan is derived from the snapshot, never from earlier plans. The steps
of one pair are in ``pair_steps``, the teardown of a bond in ``teardown``.
"""

from __future__ import annotations

from collections.abc import Iterator

from guestagent.guest.core import actions as act
from guestagent.guest.core.eligibility import ineligible
from guestagent.guest.core.pair import Pair
from guestagent.guest.core.pair_steps import PairPlanner
from guestagent.guest.core.pairing import pair_up
from guestagent.guest.core.plan import Plan
from guestagent.guest.core.policy import Policy
from guestagent.guest.core.snapshot import Snapshot
from guestagent.guest.core.teardown import teardown


def plan(snapshot: Snapshot, policy: Policy) -> Plan:
    """Return the steps that bring every pair of the snapshot to the state of the policy."""
    pairing = pair_up(snapshot, policy)
    abandoned = tuple(_abandoned(snapshot, pairing.pairs))
    planned = teardown(snapshot) + Plan(actions=abandoned, refusals=pairing.refusals)
    taken = {link.name for link in snapshot.links}
    for pair in pairing.pairs:
        bond = bond_name(snapshot, policy, pair, taken)
        taken.add(bond)
        refusal = ineligible(pair, bond)
        if refusal is not None:
            planned += Plan(refusals=(refusal,))
            continue
        planner = PairPlanner(snapshot, policy, pair, bond)
        planned += Plan(actions=tuple(planner.actions()), waiting=tuple(planner.waiting()))
    return planned


def _abandoned(snapshot: Snapshot, pairs: tuple[Pair, ...]) -> Iterator[act.Action]:
    """Delete bonds that were begun for a VF that has gone again: nothing uses them."""
    serving = {pair.bond.ifindex for pair in pairs if pair.bond is not None}
    for link in snapshot.links:
        pending = link.ours and not link.complete and not snapshot.ports(link)
        if pending and link.ifindex not in serving and link.pair_mac not in snapshot.undone:
            yield act.DeleteBond(link.name, "its VF went before it was complete")


def bond_name(snapshot: Snapshot, policy: Policy, pair: Pair, taken: set[str]) -> str:
    """Return the present name of a pair's bond, else the wanted, the remembered or a free one."""
    if pair.bond is not None:
        return pair.bond.name
    wanted = policy.of_pair(pair.mac).bond_name
    if wanted is not None:
        return wanted
    wishes = {item.bond_name for item in policy.pairs if item.bond_name is not None}
    for item in snapshot.remembered:
        if item.mac == pair.mac and item.bond not in taken | wishes:
            return item.bond
    reserved = taken | wishes | {item.bond for item in snapshot.remembered}
    number = 0
    while (name := policy.bond_name.replace("%d", str(number))) in reserved:
        number += 1
    return name
