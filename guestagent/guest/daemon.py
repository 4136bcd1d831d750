"""The service: wait for an event, converge, wait again.

Events only mark the state dirty. All kernel work is done by one thread, the
only writer; the loop watches the sockets, answers requests and feeds systemd's
watchdog, which therefore notices a kernel thread that hangs.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from guestagent.errors import ConfigurationError, GuestAgentError, SystemLacksError
from guestagent.guest import systemd
from guestagent.guest.control import ControlSocket
from guestagent.guest.engine import Engine, Outcome
from guestagent.guest.kernel.events import LinkEvents
from guestagent.guest.kernel.udev import UdevEvents
from guestagent.guest.observe import Moments
from guestagent.guest.status import status
from guestagent.wire import Request

RESYNC_S = 600.0
"""A look without an event, against whatever no event tells of."""
BACKOFF_S = (0.5, 1.0, 2.0, 5.0)
_log = logging.getLogger("guestagent.daemon")


class Daemon:
    """``guestagent run``."""

    def __init__(self, *, make_engine: Callable[[], Engine], moments: Moments) -> None:
        self._make_engine = make_engine
        self._moments = moments
        self._dirty = asyncio.Event()
        self._stopping = asyncio.Event()
        self._outcome: Outcome | None = None
        self._failures = 0
        self._told: set[str] = set()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT; the bonds stay as they are.

        Raises SystemLacksError when the very first convergence shows that the
        system lacks what every bond needs.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="kernel") as thread:
            # Subscribed before the first look: what changes after it is not missed.
            links, udev = LinkEvents(), UdevEvents()
            control = ControlSocket(self._handle)
            engine = await loop.run_in_executor(thread, self._make_engine)
            self._engine = engine
            try:
                self._watch(loop, links, udev)
                await control.start()
                await self._serve(loop, thread, engine)
            finally:
                systemd.notify("STOPPING=1")
                await control.stop()
                loop.remove_reader(links.fileno())
                loop.remove_reader(udev.fileno())
                links.close()
                await loop.run_in_executor(thread, engine.close)

    async def _serve(
        self, loop: asyncio.AbstractEventLoop, thread: ThreadPoolExecutor, engine: Engine
    ) -> None:
        first = True
        while not self._stopping.is_set():
            self._dirty.clear()
            self._outcome = await loop.run_in_executor(thread, engine.converge)
            self._judge(self._outcome, first=first)
            if first:
                systemd.notify("READY=1")
                first = False
            await self._wait()

    def _judge(self, outcome: Outcome, *, first: bool) -> None:
        """Log what is new and count failures. Raises what cannot heal."""
        if outcome.error is None:
            self._failures = 0
        else:
            if first and isinstance(outcome.error, (SystemLacksError, ConfigurationError)):
                raise outcome.error
            self._failures += 1
        said = {
            f"{item.mac} ({', '.join(item.links)}) is left alone: {item.reason}; {item.hint}"
            for item in outcome.plan.refusals
        }
        if outcome.error is not None:
            hint = f"; {outcome.error.hint}" if outcome.error.hint else ""
            said.add(f"{outcome.error}{hint}")
        waiting = set(outcome.plan.waiting)
        for text in sorted(said - self._told):
            _log.warning("%s", text)
        for text in sorted(waiting - self._told):
            _log.info("%s", text)
        self._told = said | waiting

    async def _wait(self) -> None:
        """Return when there is something to look at, feeding the watchdog meanwhile."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        if self._failures:
            # An action that fails makes events of its own: they must not drive a hot loop.
            delay = BACKOFF_S[min(self._failures, len(BACKOFF_S)) - 1]
            await self._sleep_until(begin + delay, self._stopping)
            return
        due = self._moments.next_s
        until = begin + min(RESYNC_S, RESYNC_S if due is None else due)
        await self._sleep_until(until, self._dirty)

    async def _sleep_until(self, at: float, event: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        interval = systemd.watchdog_interval_s()
        while not event.is_set() and (left := at - loop.time()) > 0:
            systemd.notify("WATCHDOG=1")
            step = left if interval is None else min(left, interval)
            try:
                await asyncio.wait_for(event.wait(), step)
            except TimeoutError:
                continue
        systemd.notify("WATCHDOG=1")

    def _watch(self, loop: asyncio.AbstractEventLoop, links: LinkEvents, udev: UdevEvents) -> None:
        def link_changed() -> None:
            links.drain()
            self._dirty.set()

        def udev_changed() -> None:
            watched = udev.fileno()
            udev.drain()
            if udev.fileno() != watched:
                loop.remove_reader(watched)
                loop.add_reader(udev.fileno(), udev_changed)
            self._dirty.set()

        loop.add_reader(links.fileno(), link_changed)
        loop.add_reader(udev.fileno(), udev_changed)

    def _stop(self) -> None:
        self._stopping.set()
        self._dirty.set()

    async def _handle(self, request: Request) -> Mapping[str, object]:
        if request.name == "status":
            return self._status()
        raise GuestAgentError(f"unknown request {request.name!r}", hint="this agent knows: status")

    def _status(self) -> dict[str, object]:
        outcome = self._outcome
        if outcome is None:
            raise GuestAgentError("the first look is not finished yet", hint="try again")
        error = str(outcome.error) if outcome.error is not None else None
        report = status(
            outcome.snapshot, self._engine.policy, outcome.plan, agent="running", last_error=error
        )
        return report.as_json()
