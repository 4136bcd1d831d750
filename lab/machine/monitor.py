"""QEMU's machine protocol for code that is not asyncio.

A thread of its own runs the connection; every event is kept with the moment of its
arrival, so that nobody has to listen before the request that causes it.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from qemu.qmp import (
    ConnectError,
    ExecInterruptedError,
    ExecuteError,
    Message,
    QMPClient,
    StateError,
)

from guestagent.clock import Deadline
from guestagent.errors import DeadlineError, PeerError, UnknownOutcomeError

T = TypeVar("T")
Json = Any
"""A decoded JSON value; tests look into it as they please."""

EVENT_TIMEOUT_S = 120.0
COMMAND_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class QmpEvent:
    """One event of QEMU."""

    name: str
    data: Json
    at_s: float
    """When it arrived here, CLOCK_MONOTONIC."""


class Monitor:
    """A connection to one QMP socket, by its path or made already; a context manager.

    :raise PeerError: on a refused connection.
    """

    def __init__(self, path: Path | socket.socket, *, name: str) -> None:
        self._name = name
        self._events: list[QmpEvent] = []
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._client = QMPClient(name)
        try:
            where = path if isinstance(path, socket.socket) else str(path)
            self._call(self._client.connect(where), timeout_s=COMMAND_TIMEOUT_S)
        except ConnectError as error:
            self._stop_loop()
            raise PeerError(f"{name}: no connection to {path}: {error}") from error
        self._pump = asyncio.run_coroutine_threadsafe(self._collect(), self._loop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; QEMU may be gone already."""
        self._pump.cancel()
        with suppress(EOFError, OSError):  # QEMU went first
            self._call(self._client.disconnect(), timeout_s=COMMAND_TIMEOUT_S)
        self._stop_loop()

    @property
    def events(self) -> tuple[QmpEvent, ...]:
        """All events so far, oldest first."""
        with self._changed:
            return tuple(self._events)

    def execute(
        self, command: str, *, timeout_s: float = COMMAND_TIMEOUT_S, **arguments: Json
    ) -> Json:
        """Run a command; underscores in argument names stand for dashes.

        Not in those of ``device_add``: they are properties, some of which have underscores.

        :raise PeerError: QEMU refused it; the text is QEMU's.
        :raise UnknownOutcomeError: the connection ended before the answer, or earlier.
        """
        words = arguments
        if command != "device_add":
            words = {name.replace("_", "-"): value for name, value in arguments.items()}
        try:
            return self._call(self._client.execute(command, words), timeout_s=timeout_s)
        except ExecuteError as error:
            raise PeerError(f"{self._name}: {command} {words}: {error}") from error
        except (ExecInterruptedError, StateError) as error:
            raise UnknownOutcomeError(f"{self._name}: {command}: {error}") from error

    def wait_event(
        self,
        name: str,
        predicate: Callable[[Json], bool] = lambda _: True,
        *,
        after: int = 0,
        timeout_s: float = EVENT_TIMEOUT_S,
    ) -> QmpEvent:
        """Return the first event ``name`` whose data fulfil ``predicate``.

        ``after`` is a count of events to pass over, ``len(monitor.events)`` of before.

        :raise DeadlineError: none came within ``timeout_s``.
        """
        deadline = Deadline.after(timeout_s)
        with self._changed:
            while True:
                for event in self._events[after:]:
                    if event.name == name and predicate(event.data):
                        return event
                if not self._changed.wait(deadline.remaining_s):
                    seen = ", ".join(event.name for event in self._events[after:]) or "none"
                    raise DeadlineError(
                        f"{self._name}: no {name} within {timeout_s} s; events: {seen}"
                    )

    async def _collect(self) -> None:
        with self._client.listener() as listener:
            async for message in listener:
                self._keep(message)

    def _keep(self, message: Message) -> None:
        event = QmpEvent(
            name=str(message["event"]), data=message.get("data", {}), at_s=time.monotonic()
        )
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    def _call(self, coroutine: Coroutine[Any, Any, T], *, timeout_s: float) -> T:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout_s)
        except TimeoutError as error:
            future.cancel()
            raise UnknownOutcomeError(
                f"{self._name}: no answer from QEMU within {timeout_s} s"
            ) from error

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
