"""The running agent: wait for an event, converge, wait again.

Events only mark the state as dirty. The loop answers requests and feeds systemd's watchdog, which
therefore notices a kernel thread that hangs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace

from guestagent.errors import ConfigurationError, GuestAgentError, SystemLacksError
from guestagent.guest.core.addressing import Address
from guestagent.guest.core.journal_ids import JournalId, fields
from guestagent.guest.core.pair import Pair
from guestagent.guest.core.pairing import pair_up
from guestagent.guest.core.policy import Policy
from guestagent.guest.kernel import packet
from guestagent.guest.kernel.events import Drained
from guestagent.guest.reconcile.engine import ConvergeResult, Engine
from guestagent.guest.reconcile.stability import Stability
from guestagent.guest.report.history import History
from guestagent.guest.service import sd_notify
from guestagent.guest.service.announcer import Announcer
from guestagent.guest.service.kernel_thread import KernelThread
from guestagent.guest.service.path_monitor import PathMonitor, WatchedPair
from guestagent.guest.state.holds import Holds
from guestagent.guest.state.undone_pairs import UndonePairs

RESYNC_S = 600.0
"""Longest time between two observations, for changes that no event reports."""
BACKOFF_S = (0.5, 1.0, 2.0, 5.0)
MAX_FAILED_OBSERVATIONS = 5
"""Observations in a row that may fail before the agent ends."""
_log = logging.getLogger("guestagent.daemon")


class Agent:
    """The state and the loop of ``guestagent run``."""

    def __init__(
        self, *, policy: Policy, make_engine: Callable[[], Engine], stability: Stability
    ) -> None:
        self.policy = policy
        self.holds = Holds()
        self.undone = UndonePairs()
        self.history = History()
        self.paths = PathMonitor(
            options=policy.health,
            pairs=self._watched,
            solicit=lambda ifindex: self._kernel.run(Engine.solicit_gateways, ifindex),
            reached=lambda ifindex: self._kernel.run(Engine.gateway_reached, ifindex),
            changed=self.mark_dirty,
        )
        self._kernel = KernelThread(make_engine)
        self._stability = stability
        self._announcer = Announcer(
            options=lambda bond: self.policy.of_pair(bond.pair_mac).options,
            addresses=self._addresses,
            send=packet.send,
        )
        self.announced: Mapping[str, int] = self._announcer.sent
        """Frames announced since the agent started, by the name of the bond."""
        self._dirty = asyncio.Event()
        self._stopping = asyncio.Event()
        self._asked = asyncio.Event()
        self._broken: BaseException | None = None
        self._result: ConvergeResult | None = None
        self._waiters: list[asyncio.Future[ConvergeResult]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._failed_observations = 0
        self._logged: set[str] = set()

    async def latest(self) -> ConvergeResult:
        """Return the result of the last convergence, waiting for the first."""
        return self._result if self._result is not None else await self.next_result()

    async def converge(self) -> ConvergeResult:
        """Return the result of a convergence that begins after this call."""
        future = self.next_result()
        self._asked.set()
        self._dirty.set()
        return await future

    def next_result(self) -> asyncio.Future[ConvergeResult]:
        """Return the result of the next convergence to begin, at any time."""
        future: asyncio.Future[ConvergeResult] = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        return future

    async def announce(self, pairs: tuple[Pair, ...]) -> int:
        """Announce the addresses of pairs; return the number of frames that were sent at once."""
        snapshot = (await self.latest()).snapshot
        bonds = [pair.bond for pair in pairs if pair.bond is not None]
        return sum([await self._announcer.announce(snapshot, bond) for bond in bonds])

    async def tx_backlog(self, ifindexes: frozenset[int]) -> int:
        """Return packets and bytes that are queued for transmission. Raises KernelError."""
        return await self._kernel.run(Engine.tx_backlog, ifindexes)

    async def serve(self) -> None:
        """Converge at every event until ``stop``.

        Raises SystemLacksError or ConfigurationError of the first convergence, and the failure
        that ended a part of the agent.
        """
        first = True
        while not self._stopping.is_set():
            self._dirty.clear()
            self._asked.clear()
            waiters, self._waiters = self._waiters, []
            result = self._result = await self._converged()
            self._note_switches(result)
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(result)
            self._note_failure(result, first=first)
            self._log_news(result)
            if first:
                sd_notify.notify("READY=1")
                first = False
            await self._wait()
        if self._broken is not None:
            raise self._broken

    async def _converged(self) -> ConvergeResult:
        """Converge; after a failed observation return the last result with the error."""
        held, avoided = self.holds.current(), self.paths.avoided()
        try:
            result = await self._kernel.run(Engine.converge, held, avoided)
        except GuestAgentError as error:
            # A socket that has died does not recover; systemd starts the agent anew.
            self._failed_observations += 1
            if self._result is None or self._failed_observations > MAX_FAILED_OBSERVATIONS:
                raise
            return replace(self._result, error=error, failed=frozenset())
        self._failed_observations = 0
        return result

    def _note_switches(self, result: ConvergeResult) -> None:
        """Log the pairs whose traffic has moved since the last observation."""
        for item in self.history.note(pair_up(result.snapshot, self.policy).pairs):
            name = item.pair.label
            extra = fields(JournalId.SWITCHED, BOND=name, PAIR=item.pair.mac, SIDE=item.role)
            _log.info("%s carries its traffic on the %s now", name, item.role, extra=extra)

    def _note_failure(self, result: ConvergeResult, *, first: bool) -> None:
        """Count failures in a row. Raises a first failure that no retry can correct."""
        if result.error is None:
            self._failures = 0
            return
        if first and isinstance(result.error, (SystemLacksError, ConfigurationError)):
            raise result.error
        self._failures += 1

    def _log_news(self, result: ConvergeResult) -> None:
        """Log refusals, failures and waiting that the last result did not have."""
        news = {
            f"{item.mac} ({', '.join(item.links)}) is left alone: {item.reason}; {item.hint}": (
                logging.WARNING,
                fields(JournalId.LEFT_ALONE, PAIR=item.mac),
            )
            for item in result.plan.refusals
        }
        if result.error is not None:
            hint = f"; {result.error.hint}" if result.error.hint else ""
            news[f"{result.error}{hint}"] = logging.WARNING, fields(JournalId.FAILED)
        for text in result.plan.waiting:
            news[text] = logging.INFO, fields(JournalId.WAITING)
        for text in sorted(news.keys() - self._logged):
            level, extra = news[text]
            _log.log(level, "%s", text, extra=extra)
        self._logged = set(news)

    async def _wait(self) -> None:
        """Return when the next convergence is due, feeding the watchdog meanwhile."""
        now = asyncio.get_running_loop().time()
        if self._failures:
            # An action that fails makes events of its own: they must not drive a hot loop.
            # A request does not wait for the failure of another pair.
            delay = BACKOFF_S[min(self._failures, len(BACKOFF_S)) - 1]
            await self._sleep_until(now + delay, self._asked)
            return
        due = [RESYNC_S, self._stability.next_s, self.holds.next_s, self.paths.next_s]
        wait_s = min(seconds for seconds in due if seconds is not None)
        await self._sleep_until(now + wait_s, self._dirty)

    async def _sleep_until(self, at: float, event: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        interval = sd_notify.watchdog_interval_s()
        while not event.is_set() and (left := at - loop.time()) > 0:
            sd_notify.notify("WATCHDOG=1")
            step = left if interval is None else min(left, interval)
            try:
                await asyncio.wait_for(event.wait(), step)
            except TimeoutError:
                continue
        sd_notify.notify("WATCHDOG=1")

    async def announce_for(self, drained: Drained) -> None:
        """Announce the bonds whose active port has requested it.

        virtio-net does so after a migration, on the port, which has no address; the kernel
        itself carries out the request of the bond.
        """
        if self._result is None:
            return
        snapshot = self._result.snapshot
        for pair in pair_up(snapshot, self.policy).pairs:
            if pair.bond is None or pair.state is None:
                continue
            if drained.overflown or pair.state.active in drained.announcing:
                try:
                    await self._announcer.announce(snapshot, pair.bond)
                except GuestAgentError as error:
                    _log.warning("%s", error, extra={"BOND": pair.bond.name})

    async def _addresses(self, ifindex: int) -> tuple[Address, ...]:
        return await self._kernel.run(Engine.addresses, ifindex)

    def _watched(self) -> tuple[WatchedPair, ...]:
        """Return the bonds that carry traffic, with the role of the active port."""
        if self._result is None:
            return ()
        snapshot = self._result.snapshot
        return tuple(
            WatchedPair(
                mac=pair.mac,
                bond=pair.bond.name,
                ifindex=pair.bond.ifindex,
                role=pair.active_role,
                vf=pair.vf.ifindex if pair.vf is not None else None,
            )
            for pair in pair_up(snapshot, self.policy).pairs
            if pair.bond is not None and pair.active_role is not None
        )

    def mark_dirty(self) -> None:
        """Have the agent observe and converge again."""
        self._dirty.set()

    def background(self, work: Coroutine[None, None, None]) -> None:
        """Run a part of the agent beside the loop."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Stop the agent when a part has failed: without it, it would only seem to serve."""
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._broken = self._broken or task.exception()
            self.stop()

    def stop(self) -> None:
        """End ``serve`` after the present convergence."""
        self._stopping.set()
        self._asked.set()
        self._dirty.set()

    async def close(self) -> None:
        """End all background work and the kernel thread; the bonds stay as they are."""
        await self._announcer.stop()
        for task in self._tasks:
            task.cancel()
        await self._kernel.close()
