"""Path monitor: probes the gateways in rounds and names the VFs to avoid.

A probe is the kernel's own neighbour discovery: the agent has an entry confirmed
and reads its state later, so ARP and neighbour solicitation go out on the bond
like any other traffic and nothing is parsed here. Off unless configured.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from guestagent.clock import Clock
from guestagent.errors import GuestAgentError
from guestagent.guest.core.journal_ids import JournalId, fields
from guestagent.guest.core.pair import Role
from guestagent.guest.core.path_health import PathHealth
from guestagent.guest.core.policy import HealthOptions

VERDICT_S = 3.5
"""Three solicitations, a second apart (K: net/core/neighbour.c, neigh_max_probes (6.12))."""
_log = logging.getLogger("guestagent.health")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedPair:
    """A bond whose gateway is probed."""

    mac: str
    bond: str
    ifindex: int
    role: Role
    vf: int | None = None
    """ifindex of the VF: another VF has another path, with a record of its own."""


class PathMonitor:
    """Runs the rounds; ``avoided`` is their result."""

    def __init__(
        self,
        *,
        options: HealthOptions,
        pairs: Callable[[], tuple[WatchedPair, ...]],
        solicit: Callable[[int], Awaitable[bool]],
        reached: Callable[[int], Awaitable[bool]],
        changed: Callable[[], None],
        clock: Clock = time.monotonic,
        verdict_s: float = VERDICT_S,
    ) -> None:
        self._options = options
        self._pairs = pairs
        self._solicit = solicit
        self._reached = reached
        self._changed = changed
        self._clock = clock
        self._verdict_s = verdict_s
        self._known: dict[tuple[str, int | None], PathHealth] = {}

    def avoided(self) -> frozenset[str]:
        """Return the MACs of the pairs whose VF must not carry the traffic now."""
        now = self._clock()
        vfs = {pair.mac: pair.vf for pair in self._pairs()}
        self._known = {
            (mac, vf): known for (mac, vf), known in self._known.items() if vfs.get(mac, vf) == vf
        }
        return frozenset(mac for (mac, _), known in self._known.items() if known.avoided(now))

    @property
    def next_s(self) -> float | None:
        """Seconds until the first VF is tried again, or None."""
        now = self._clock()
        ends = [known.avoided_until_s for known in self._known.values() if known.avoided(now)]
        return min((end - now for end in ends if end is not None), default=None)

    def forget(self, mac: str) -> None:
        """Trust the VF of a pair again at once, at an operator's request."""
        self._known = {key: known for key, known in self._known.items() if key[0] != mac}

    async def run(self) -> None:
        """Probe until cancelled."""
        while True:
            await asyncio.sleep(self._options.interval_s)
            await asyncio.gather(*(self._round(pair) for pair in self._pairs()))

    async def _round(self, pair: WatchedPair) -> None:
        try:
            if not await self._solicit(pair.ifindex):
                return
            await asyncio.sleep(self._verdict_s)
            reachable = await self._reached(pair.ifindex)
        except GuestAgentError as error:
            _log.warning("cannot probe the gateway of %s: %s, ignoring", pair.bond, error)
            return
        if pair not in self._pairs():
            return  # the path moved meanwhile: the answer is about neither port
        now = self._clock()
        key = (pair.mac, pair.vf)
        before = self._known.get(key, PathHealth(hold_down_s=self._options.hold_down_s))
        after = before.noted(pair.role, reachable=reachable, now_s=now)
        self._known[key] = after
        if after.avoided(now) and not before.avoided(now):
            _log.warning(
                "%s: the VF has a carrier but its gateway does not answer: the standby carries"
                " for %.0f s, then the VF is tried again",
                pair.bond,
                after.last_hold_down_s,
                extra=fields(JournalId.PATH_LOST, BOND=pair.bond, PAIR=pair.mac),
            )
            self._changed()
