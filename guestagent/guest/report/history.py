"""Switches of each pair since the agent started: their number and the time of the last.

For people and for metrics; no plan depends on it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from guestagent.clock import Clock
from guestagent.guest.core.pair import Pair, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class PairHistory:
    """Switches of one pair."""

    role: Role | None = None
    """Role of the last active port."""
    switches: int = 0
    switched_at_s: float | None = None
    """Seconds of the wall clock; None before the first switch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switched:
    """A pair whose active port has another role than before."""

    pair: Pair
    role: Role


class History:
    """Records every observation; a switch and its return between two of them are not seen."""

    def __init__(self, clock: Clock = time.time) -> None:
        self._clock = clock
        self._pairs: dict[str, PairHistory] = {}
        self.started_at_s = clock()

    def of(self, mac: str) -> PairHistory:
        """Return the switches of a pair."""
        return self._pairs.get(mac, PairHistory())

    def note(self, pairs: tuple[Pair, ...]) -> tuple[Switched, ...]:
        """Record an observation and return the switches; the first role of a pair is none."""
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
