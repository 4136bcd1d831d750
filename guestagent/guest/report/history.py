"""Which side has carried each pair since the agent started: how often it changed, and when.

For people and for metrics; nothing is planned from it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from guestagent.clock import Clock
from guestagent.guest.core.pair import Pair, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class PairHistory:
    """What happened to one pair."""

    role: Role | None = None
    """Role of the last active port."""
    switches: int = 0
    switched_at_s: float | None = None
    """Seconds of the wall clock; None before the first switch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switched:
    """A pair whose traffic was seen on another side than before."""

    pair: Pair
    role: Role


class History:
    """Fed with every look; a switch and its return between two looks are not seen."""

    def __init__(self, clock: Clock = time.time) -> None:
        self._clock = clock
        self._pairs: dict[str, PairHistory] = {}
        self.started_at_s = clock()

    def of(self, mac: str) -> PairHistory:
        """Return what happened to a pair."""
        return self._pairs.get(mac, PairHistory())

    def note(self, pairs: tuple[Pair, ...]) -> tuple[Switched, ...]:
        """Take in a look and return what has switched; the first side of a pair is no switch."""
        found: list[Switched] = []
        for pair in pairs:
            role, known = pair.active_role, self.of(pair.mac)
            if role is None or role is known.role:
                continue
            self._pairs[pair.mac] = replace(known, role=role)
            if known.role is not None:
                found.append(Switched(pair=pair, role=role))
                self._pairs[pair.mac] = PairHistory(
                    role=role, switches=known.switches + 1, switched_at_s=self._clock()
                )
        return tuple(found)
