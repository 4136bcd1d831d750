"""``undo`` and ``adopt``: the pairs that they concern, and an undo without a running agent.

A running agent does the work itself (``requests``): it is the only writer.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from guestagent.clock import Deadline
from guestagent.errors import ConflictError, DeadlineError, GuestAgentError
from guestagent.guest.core.pairing import pair_up
from guestagent.guest.core.policy import Policy
from guestagent.guest.core.snapshot import Snapshot
from guestagent.guest.core.teardown import teardown_refusal
from guestagent.guest.kernel.events import LinkEvents
from guestagent.guest.reconcile.engine import ConvergeResult, Engine
from guestagent.guest.reconcile.stability import Stability
from guestagent.guest.state.undone_pairs import UndonePairs

TIMEOUT_S = 45.0
"""Shorter than the time for which the removal of the package waits."""
_POLL_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoTargets:
    """The pairs to take apart."""

    macs: frozenset[str]
    refused: tuple[str, ...] = ()
    """Reasons why further pairs that were named cannot be taken apart."""


def undo_targets(snapshot: Snapshot, policy: Policy, name: str | None) -> UndoTargets:
    """Return the pairs with this bond name or MAC, or all, with or without a bond.

    Raises ConflictError if there is none, or none that can be taken apart.
    """
    named = {link.pair_mac: link.name for link in snapshot.links if link.ours}
    for pair in pair_up(snapshot, policy).pairs:
        named.setdefault(pair.mac, pair.mac)
    named.update({mac: mac for mac in snapshot.undone if mac not in named})
    if name is not None:
        known = ", ".join(sorted(named.values()))
        named = {mac: bond for mac, bond in named.items() if name in {mac, bond}}
        if not named:
            raise ConflictError(
                f"the agent has no bond {name[:40]!r}",
                hint=f"it has: {known}" if known else "it has none",
            )
    refused: list[str] = []
    macs: set[str] = set()
    hint = None
    for mac in named:
        bond = snapshot.bond_of(mac)
        refusal = teardown_refusal(snapshot, mac, bond) if bond is not None else None
        if refusal is None:
            macs.add(mac)
        else:
            refused.append(refusal.reason)
            hint = refusal.hint
    if refused and not macs:
        raise ConflictError("; ".join(refused), hint=hint)
    return UndoTargets(macs=frozenset(macs), refused=tuple(refused))


def adopt_targets(snapshot: Snapshot, name: str | None) -> frozenset[str]:
    """Return the undone pairs with this bond name or MAC, or all. Raises ConflictError."""
    if name is None:
        return snapshot.undone
    bonds = {item.mac: item.bond for item in snapshot.remembered}
    macs = {mac for mac in snapshot.undone if name in {mac, bonds.get(mac)}}
    if not macs:
        known = ", ".join(sorted(bonds.get(mac, mac) for mac in snapshot.undone))
        raise ConflictError(
            f"{name[:40]!r} is no pair that was taken apart",
            hint=f"there is: {known}" if known else "nothing was: `guestagent status` shows it",
        )
    return frozenset(macs)


def record_undone(undone: UndonePairs, macs: frozenset[str]) -> None:
    """Record pairs as undone, which is the first step of an undo. Raises GuestAgentError."""
    _recorded(lambda: undone.add(macs))


def record_adopted(undone: UndonePairs, macs: frozenset[str]) -> None:
    """Delete the record of undone pairs. Raises GuestAgentError."""
    _recorded(lambda: undone.remove(macs))


def is_torn_down(snapshot: Snapshot, macs: frozenset[str]) -> bool:
    """Whether none of the pairs has a bond of the agent."""
    return all(snapshot.bond_of(mac) is None for mac in macs)


def as_answer(targets: UndoTargets, before: Snapshot) -> Mapping[str, object]:
    """Return the JSON form: each pair with its former bond and its NICs."""
    pairs = []
    for mac in sorted(targets.macs):
        bond = before.bond_of(mac)
        nics = [link.name for link in before.nics_of(mac)]
        pairs.append({"mac": mac, "bond": bond.name if bond else None, "nics": nics})
    return {"released": pairs, "refused": list(targets.refused)}


def undo_timeout(result: ConvergeResult) -> DeadlineError:
    """Return the error for an undo that did not end in time."""
    return DeadlineError(
        f"not taken apart in time: {'; '.join(result.plan.waiting) or 'see the journal'}",
        hint="the network goes on through the bond; a running agent finishes the undo,"
        " `guestagent undo` tries again, `guestagent adopt` takes it back",
    )


def undo_without_agent(
    engine: Engine, stability: Stability, undone: UndonePairs, policy: Policy, name: str | None
) -> Mapping[str, object]:
    """Take pairs apart while no agent runs. Raises the first failure.

    Bonds are only taken apart: no pair is bonded meanwhile.
    """
    events = LinkEvents()  # before the first observation: no later change is missed
    try:
        before = engine.look().snapshot
        targets = undo_targets(before, policy, name)
        record_undone(undone, targets.macs)
        deadline = Deadline.after(TIMEOUT_S)
        while True:
            result = engine.tear_down()
            if result.error is not None:
                raise result.error
            if is_torn_down(result.snapshot, targets.macs):
                return as_answer(targets, before)
            if deadline.remaining_s <= 0:
                raise undo_timeout(result)
            wait_s = _POLL_S if stability.next_s is None else stability.next_s
            select.select([events], [], [], min(wait_s, _POLL_S))
            events.drain()
    finally:
        events.close()


def _recorded(write: Callable[[], None]) -> None:
    try:
        write()
    except OSError as error:
        raise GuestAgentError(
            f"cannot record the pairs that are taken apart: {error}", hint="nothing was changed"
        ) from error
