"""The service: wait for an event, converge, wait again.

Events only mark the state dirty. All kernel work is done by one thread, the
only writer; the loop watches the sockets, answers requests and feeds systemd's
watchdog, which therefore notices a kernel thread that hangs.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar, TypeVarTuple

from guestagent.errors import ConfigurationError, GuestAgentError, SystemLacksError
from guestagent.guest.api.unix_socket import ControlSocket
from guestagent.guest.api.virtio_serial import HostChannel
from guestagent.guest.core.journal_ids import Message, fields
from guestagent.guest.core.model import Address, Pair, Policy
from guestagent.guest.core.pairing import pair_up
from guestagent.guest.kernel import packet
from guestagent.guest.kernel.events import Drained, LinkEvents
from guestagent.guest.kernel.udev import UdevEvents
from guestagent.guest.reconcile.engine import Engine, Outcome
from guestagent.guest.reconcile.observe import Moments
from guestagent.guest.report.history import History
from guestagent.guest.service import sd_notify
from guestagent.guest.service.announcer import Announcer
from guestagent.guest.service.path_monitor import PathWatch, WatchedPair
from guestagent.guest.service.requests import Requests
from guestagent.guest.state.holds import Leases
from guestagent.guest.state.lock import WriterLock
from guestagent.guest.state.undone_pairs import ReleasedPairs

_T = TypeVar("_T")
_Args = TypeVarTuple("_Args")
RESYNC_S = 600.0
"""A look without an event, against whatever no event tells of."""
BACKOFF_S = (0.5, 1.0, 2.0, 5.0)
MAX_BLIND_LOOKS = 5
"""Looks in a row that may fail before the agent ends."""
_log = logging.getLogger("guestagent.daemon")


class Daemon:
    """``guestagent run``."""

    def __init__(
        self, *, policy: Policy, make_engine: Callable[[], Engine], moments: Moments
    ) -> None:
        self.policy = policy
        self.leases = Leases()
        self.released = ReleasedPairs()
        self.history = History()
        self._make_engine = make_engine
        self._moments = moments
        self.paths = PathWatch(
            options=policy.health,
            pairs=self._watched,
            solicit=lambda ifindex: self._in_thread(self._engine.solicit_gateways, ifindex),
            reached=lambda ifindex: self._in_thread(self._engine.gateway_reached, ifindex),
            changed=self._dirty_now,
        )
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kernel")
        self._dirty = asyncio.Event()
        self._stopping = asyncio.Event()
        self._asked = asyncio.Event()
        self._broken: BaseException | None = None
        self._outcome: Outcome | None = None
        self._waiters: list[asyncio.Future[Outcome]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._blind_looks = 0
        self._told: set[str] = set()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT; the bonds stay as they are.

        Raises SystemLacksError when the very first convergence shows that the
        system lacks what every bond needs.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        # Subscribed before the first look: what changes after it is not missed.
        links, udev = LinkEvents(), UdevEvents()
        requests = Requests(self)
        control = ControlSocket(requests, group=self.policy.control_group)
        self._channel = HostChannel(requests)
        writer = WriterLock()
        await loop.run_in_executor(self._thread, writer.wait)
        self._engine = await loop.run_in_executor(self._thread, self._make_engine)
        self._announcer = Announcer(
            options=lambda bond: self.policy.of_pair(bond.pair_mac).options,
            addresses=self._addresses,
            send=packet.send,
        )
        try:
            self._watch(loop, links, udev)
            await control.start()
            self._background(self._channel.run())
            if self.policy.health.gateway:
                self._background(self.paths.run())
            await self._serve()
        finally:
            sd_notify.notify("STOPPING=1")
            await control.stop()
            await self._announcer.stop()
            for task in self._tasks:
                task.cancel()
            loop.remove_reader(links.fileno())
            loop.remove_reader(udev.fileno())
            links.close()
            await loop.run_in_executor(self._thread, self._engine.close)
            self._thread.shutdown()
            writer.release()

    @property
    def announced(self) -> Mapping[str, int]:
        """Frames announced since the agent started, by the name of the bond."""
        return self._announcer.sent

    async def latest(self) -> Outcome:
        """Return the outcome of the last convergence, waiting for the first."""
        return self._outcome if self._outcome is not None else await self.next_outcome()

    async def converge(self) -> Outcome:
        """Return the outcome of a convergence that begins after this call."""
        future = self.next_outcome()
        self._asked.set()
        self._dirty.set()
        return await future

    def next_outcome(self) -> asyncio.Future[Outcome]:
        """Return the outcome of the next convergence to begin, whenever it does."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        return future

    async def announce(self, pairs: tuple[Pair, ...]) -> int:
        """Announce the addresses of pairs; return how many frames went out at once."""
        snapshot = (await self.latest()).snapshot
        bonds = [pair.bond for pair in pairs if pair.bond is not None]
        return sum([await self._announcer.announce(snapshot, bond) for bond in bonds])

    async def unsent(self, ifindexes: frozenset[int]) -> int:
        """Return how much links hold of what they were given to send. Raises KernelError."""
        return await self._in_thread(self._engine.unsent, ifindexes)

    async def _serve(self) -> None:
        first = True
        while not self._stopping.is_set():
            self._dirty.clear()
            self._asked.clear()
            waiters, self._waiters = self._waiters, []
            held, avoided = self.leases.current(), self.paths.avoided()
            try:
                outcome = await self._in_thread(self._engine.converge, held, avoided)
            except GuestAgentError as error:
                # The system could not even be looked at: what was seen last still stands.
                # A socket that has died does not heal; systemd starts us anew with another.
                self._blind_looks += 1
                if self._outcome is None or self._blind_looks > MAX_BLIND_LOOKS:
                    raise
                outcome = replace(self._outcome, error=error, failed=frozenset())
            else:
                self._blind_looks = 0
            self._outcome = outcome
            self._note(outcome)
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(outcome)
            self._judge(outcome, first=first)
            if first:
                sd_notify.notify("READY=1")
                first = False
            await self._wait()
        if self._broken is not None:
            raise self._broken

    def _note(self, outcome: Outcome) -> None:
        """Log which pairs carry their traffic elsewhere than at the last look."""
        for item in self.history.note(pair_up(outcome.snapshot, self.policy).pairs):
            name = item.pair.bond.name if item.pair.bond is not None else item.pair.mac
            told = fields(Message.SWITCHED, BOND=name, PAIR=item.pair.mac, SIDE=item.side)
            _log.info("%s carries its traffic on the %s now", name, item.side, extra=told)

    def _judge(self, outcome: Outcome, *, first: bool) -> None:
        """Log what is new and count failures. Raises what cannot heal."""
        if outcome.error is None:
            self._failures = 0
        else:
            if first and isinstance(outcome.error, (SystemLacksError, ConfigurationError)):
                raise outcome.error
            self._failures += 1
        news = {
            f"{item.mac} ({', '.join(item.links)}) is left alone: {item.reason}; {item.hint}": (
                logging.WARNING,
                fields(Message.LEFT_ALONE, PAIR=item.mac),
            )
            for item in outcome.plan.refusals
        }
        if outcome.error is not None:
            hint = f"; {outcome.error.hint}" if outcome.error.hint else ""
            news[f"{outcome.error}{hint}"] = logging.WARNING, fields(Message.FAILED)
        for text in outcome.plan.waiting:
            news[text] = logging.INFO, fields(Message.WAITING)
        for text in sorted(news.keys() - self._told):
            level, told = news[text]
            _log.log(level, "%s", text, extra=told)
        self._told = set(news)

    async def _wait(self) -> None:
        """Return when there is something to look at, feeding the watchdog meanwhile."""
        now = asyncio.get_running_loop().time()
        if self._failures:
            # An action that fails makes events of its own: they must not drive a hot loop.
            # Somebody who asks is not kept waiting by what fails for another pair.
            delay = BACKOFF_S[min(self._failures, len(BACKOFF_S)) - 1]
            await self._sleep_until(now + delay, self._asked)
            return
        due = [RESYNC_S, self._moments.next_s, self.leases.next_s, self.paths.next_s]
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

    def _watch(self, loop: asyncio.AbstractEventLoop, links: LinkEvents, udev: UdevEvents) -> None:
        def link_changed() -> None:
            drained = links.drain()
            if drained.announcing or drained.overflown:
                self._background(self._announce_for(drained))
            self._dirty.set()

        def udev_changed() -> None:
            watched = udev.fileno()
            udev.drain()
            if udev.fileno() != watched:
                loop.remove_reader(watched)
                loop.add_reader(udev.fileno(), udev_changed)
            self._channel.device_changed()
            self._dirty.set()

        loop.add_reader(links.fileno(), link_changed)
        loop.add_reader(udev.fileno(), udev_changed)

    async def _announce_for(self, drained: Drained) -> None:
        """Announce the bonds whose active port asked its network to be told.

        virtio-net does after a migration, on the port, which has no address; the
        bond's own request is the kernel's, and already carried out by it.
        """
        if self._outcome is None:
            return
        snapshot = self._outcome.snapshot
        for pair in pair_up(snapshot, self.policy).pairs:
            state = pair.bond.bond if pair.bond is not None else None
            if pair.bond is None or state is None:
                continue
            if drained.overflown or state.active in drained.announcing:
                try:
                    await self._announcer.announce(snapshot, pair.bond)
                except GuestAgentError as error:
                    _log.warning("%s", error, extra={"BOND": pair.bond.name})

    async def _addresses(self, ifindex: int) -> tuple[Address, ...]:
        return await self._in_thread(self._engine.addresses, ifindex)

    async def _in_thread(self, work: Callable[[*_Args], _T], *arguments: *_Args) -> _T:
        """Let the kernel thread do something."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _watched(self) -> tuple[WatchedPair, ...]:
        """Return the bonds that carry traffic, with the side that does."""
        if self._outcome is None:
            return ()
        snapshot = self._outcome.snapshot
        return tuple(
            WatchedPair(
                mac=pair.mac,
                bond=pair.bond.name,
                ifindex=pair.bond.ifindex,
                side=pair.side,
                vf=pair.vf.ifindex if pair.vf is not None else None,
            )
            for pair in pair_up(snapshot, self.policy).pairs
            if pair.bond is not None and pair.side is not None
        )

    def _dirty_now(self) -> None:
        self._dirty.set()

    def _background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """End the agent with a part of it that broke: without it, it would only seem to serve."""
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._broken = self._broken or task.exception()
            self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        self._asked.set()
        self._dirty.set()
