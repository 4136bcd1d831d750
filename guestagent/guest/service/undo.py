"""``undo`` and ``adopt``: which pairs are meant, and the work where no agent runs.

Where one runs it does the work (``requests``): it is the only writer.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from guestagent.clock import Deadline
from guestagent.errors import ConflictError, DeadlineError, GuestAgentError
from guestagent.guest.core.model import Policy, Snapshot
from guestagent.guest.core.pairing import bond_of, pair_up
from guestagent.guest.core.teardown import obstacle
from guestagent.guest.kernel.events import LinkEvents
from guestagent.guest.reconcile.engine import Engine, Outcome
from guestagent.guest.reconcile.observe import Moments

TIMEOUT_S = 45.0
"""Less than a removal of the package waits for it."""
_LOOK_AT_LEAST_S = 0.5


class ReleaseNote(Protocol):
    """Where it is noted which pairs are released."""

    def add(self, macs: AbstractSet[str]) -> None:
        """Release pairs. Raises OSError."""

    def remove(self, macs: AbstractSet[str]) -> None:
        """Let pairs be bonded again. Raises OSError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The pairs that are meant, and what the agent is told or does about them."""

    macs: frozenset[str]
    refused: tuple[str, ...] = ()
    """Why some of those that were meant cannot be taken apart."""


def to_release(snapshot: Snapshot, policy: Policy, name: str | None) -> Chosen:
    """Return the pairs that a name means, or all: those with a bond, and those yet without.

    Raises ConflictError when the name means none, or none that could be taken apart.
    """
    meant = {link.pair_mac: link.name for link in snapshot.links if link.ours}
    for pair in pair_up(snapshot, policy).pairs:
        meant.setdefault(pair.mac, pair.mac)
    meant.update({mac: mac for mac in snapshot.released if mac not in meant})
    if name is not None:
        known = ", ".join(sorted(meant.values()))
        meant = {mac: bond for mac, bond in meant.items() if name in {mac, bond}}
        if not meant:
            raise ConflictError(
                f"the agent has no bond {name[:40]!r}",
                hint=f"it has: {known}" if known else "it has none",
            )
    refused: list[str] = []
    macs: set[str] = set()
    hint = None
    for mac in meant:
        bond = bond_of(snapshot, mac)
        refusal = obstacle(snapshot, mac, bond) if bond is not None else None
        if refusal is None:
            macs.add(mac)
        else:
            refused.append(refusal.reason)
            hint = refusal.hint
    if refused and not macs:
        raise ConflictError("; ".join(refused), hint=hint)
    return Chosen(macs=frozenset(macs), refused=tuple(refused))


def to_adopt(snapshot: Snapshot, name: str | None) -> frozenset[str]:
    """Return the released pairs that a name means, or all. Raises ConflictError for none."""
    if name is None:
        return snapshot.released
    bonds = {item.mac: item.bond for item in snapshot.remembered}
    macs = {mac for mac in snapshot.released if name in {mac, bonds.get(mac)}}
    if not macs:
        known = ", ".join(sorted(bonds.get(mac, mac) for mac in snapshot.released))
        raise ConflictError(
            f"{name[:40]!r} is no pair that was taken apart",
            hint=f"there is: {known}" if known else "nothing was: `guestagent status` shows it",
        )
    return frozenset(macs)


def release_pairs(released: ReleaseNote, macs: frozenset[str]) -> None:
    """Note pairs as released, which is the first step of an undo. Raises GuestAgentError."""
    _written(lambda: released.add(macs))


def adopt_pairs(released: ReleaseNote, macs: frozenset[str]) -> None:
    """Take that note back. Raises GuestAgentError."""
    _written(lambda: released.remove(macs))


def apart(snapshot: Snapshot, macs: frozenset[str]) -> bool:
    """Whether none of the pairs has a bond of ours."""
    return all(bond_of(snapshot, mac) is None for mac in macs)


def as_answer(chosen: Chosen, before: Snapshot) -> Mapping[str, object]:
    """Return the JSON form: each pair with its former bond and its NICs."""
    pairs = []
    for mac in sorted(chosen.macs):
        bond = bond_of(before, mac)
        nics = [
            link.name for link in before.links if link.physical and link.permanent_address == mac
        ]
        pairs.append({"mac": mac, "bond": bond.name if bond else None, "nics": nics})
    return {"released": pairs, "refused": list(chosen.refused)}


def late(outcome: Outcome) -> DeadlineError:
    """Return the error for an undo that did not end in time."""
    return DeadlineError(
        f"not taken apart in time: {'; '.join(outcome.plan.waiting) or 'see the journal'}",
        hint="the network goes on through the bond; a running agent finishes it by itself,"
        " `guestagent undo` tries again, `guestagent adopt` takes it back",
    )


def release_alone(
    engine: Engine, moments: Moments, released: ReleaseNote, policy: Policy, name: str | None
) -> Mapping[str, object]:
    """Take pairs apart where no agent runs. Raises the first failure.

    Only bonds are taken apart: nothing is bonded meanwhile.
    """
    events = LinkEvents()  # before the first look: what changes after it is not missed
    try:
        before = engine.look().snapshot
        chosen = to_release(before, policy, name)
        release_pairs(released, chosen.macs)
        deadline = Deadline.after(TIMEOUT_S)
        while True:
            outcome = engine.release()
            if outcome.error is not None:
                raise outcome.error
            if apart(outcome.snapshot, chosen.macs):
                return as_answer(chosen, before)
            if deadline.remaining_s <= 0:
                raise late(outcome)
            wait_s = _LOOK_AT_LEAST_S if moments.next_s is None else moments.next_s
            select.select([events], [], [], min(wait_s, _LOOK_AT_LEAST_S))
            events.drain()
    finally:
        events.close()


def _written(write: Callable[[], None]) -> None:
    try:
        write()
    except OSError as error:
        raise GuestAgentError(
            f"cannot note which pairs are taken apart: {error}", hint="nothing was changed"
        ) from error


@dataclass(frozen=True, slots=True)
class FixedRelease:
    """Released pairs that are only thought of, for a preview."""

    macs: frozenset[str]

    def current(self) -> frozenset[str]:
        """Return the MACs."""
        return self.macs
