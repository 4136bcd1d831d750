"""One QMP connection: every command has a deadline, every event stream an end.

qemu.qmp implements the protocol. Added here: every command has a timeout; a lost connection
differs from a refusal; events go only to the streams that subscribed to them, which are bounded
and fail when the connection ends (the library's own listener keeps every event and stays
silent).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from qemu import qmp

from guestagent.errors import PeerError, UnknownOutcomeError
from guestagent.host.hypervisor.base import ConnectionLostError, GoneError, RefusedError
from guestagent.host.hypervisor.reply import Reply, shown

_MAX_ANSWER_BYTES = 4 * 1024 * 1024
_MAX_KEPT_EVENTS = 256
_CLOSE_TIMEOUT_S = 2.0

# The errors with which garbage ends the library's reader task: not JSON or not an
# object (QMPError), not UTF-8 or too long (ValueError), nested too deeply
# (RecursionError), a member of a type it cannot use (TypeError, KeyError).
_READER_ERRORS = (qmp.QMPError, OSError, EOFError, ValueError, RecursionError, TypeError, KeyError)


class CommandRefusedError(RefusedError):
    """A command was answered with an error; ``error_class`` and ``reason`` are QEMU's."""

    def __init__(self, message: str, *, error_class: str, reason: str) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event; ``at_s`` and ``received_s`` are seconds of this host's monotonic clock.

    ``at_s`` is QEMU's time stamp, which is wall clock, moved to the monotonic
    clock: right if both run on one host and the time was not set in between.
    """

    name: str
    data: Reply
    at_s: float
    received_s: float


class EventStream(qmp.EventListener):
    """The newest 256 events of some names, from when it was opened; see ``Connection.events``."""

    def __init__(self, connection: Connection, names: frozenset[str]) -> None:
        super().__init__(names=names)
        self._connection = connection
        self._kept: deque[tuple[qmp.Message, float]] = deque(maxlen=_MAX_KEPT_EVENTS)
        self._changed = asyncio.Event()

    async def put(self, event: qmp.Message) -> None:
        """Accept an event from the library; the base class would keep it without limit."""
        if self.accept(event):
            self._kept.append((event, time.monotonic()))
            self._changed.set()

    def wake(self) -> None:
        """Let ``next`` see that the connection has ended."""
        self._changed.set()

    async def next(self, timeout_s: float) -> Event | None:
        """Return the next event, None when none came in time.

        Raises ConnectionLostError when the connection ends first.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self._kept and not self._connection.ended:
                    self._changed.clear()
                    await self._changed.wait()
        if self._kept:
            return self._read(*self._kept.popleft())
        if self._connection.ended:
            raise self._connection.lost("while an event was awaited")
        return None

    def drain(self) -> Iterator[Event]:
        """Yield what has arrived, without waiting."""
        while self._kept:
            yield self._read(*self._kept.popleft())

    def _read(self, message: qmp.Message, received_s: float) -> Event:
        event = Reply.received(dict(message), f"{self._connection.origin}, event")
        stamp = event.object("timestamp")
        stamp_s = stamp.integer("seconds") + stamp.integer("microseconds") / 1e6
        at_s = time.monotonic() - (time.time() - stamp_s)
        data = event.object("data") if event.has("data") else Reply({}, origin=event.origin)
        return Event(
            name=event.string("event"),
            data=data,
            at_s=min(at_s, received_s),
            received_s=received_s,
        )


class Connection:
    """A connection to a QMP (or guest agent) socket; made by ``open``."""

    def __init__(self, client: qmp.QMPClient, origin: str) -> None:
        self.origin = origin
        self._client = client
        self._cause = "it was closed here"
        self._stop = asyncio.Event()
        self._ended = asyncio.Event()
        self._streams: list[EventStream] = []
        self._attendant = asyncio.create_task(self._attend())

    @classmethod
    async def open(
        cls, path: Path, *, origin: str, timeout_s: float, greets: bool = True
    ) -> Connection:
        """Connect to ``path``; ``greets`` is false for a guest agent, which sends no greeting.

        Raises GoneError when nothing listens there, PeerError when what
        listens does not speak QMP in time.
        """
        client = qmp.QMPClient(readbuflen=_MAX_ANSWER_BYTES)
        client.await_greeting = client.negotiate = greets
        client.events.event_filter = _nothing
        try:
            async with asyncio.timeout(timeout_s):
                await client.connect(str(path))
        except TimeoutError as error:
            raise PeerError(
                f"{origin} did not greet within {timeout_s:g} s",
                hint="QEMU serves one QMP client at a time: give this program its own socket, or"
                " check whether QEMU hangs",
            ) from error
        except qmp.ConnectError as error:
            raise _why_not_connected(origin, error.exc) from error
        except AssertionError as error:
            # The library assumes that a peer cannot be gone right after its greeting.
            with contextlib.suppress(*_READER_ERRORS):
                await client.disconnect()
            raise _why_not_connected(origin, EOFError()) from error
        return cls(client, origin)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def ended(self) -> bool:
        """Whether the connection cannot be used any more."""
        return self._stop.is_set() or self._ended.is_set()

    async def execute(
        self, command: str, arguments: Mapping[str, object] | None = None, *, timeout_s: float
    ) -> Reply:
        """Run a command and return its value.

        Raises CommandRefusedError when it was answered with an error,
        UnknownOutcomeError when it was sent and no answer came: the connection
        is unusable then, as the answer may still come. ConnectionLostError
        is the UnknownOutcomeError of a connection that ended.
        """
        if self.ended:
            raise self.lost(f"before {command}")
        try:
            async with asyncio.timeout(timeout_s):
                value = await self._client.execute(command, arguments)
        except TimeoutError as error:
            self._cause = f"no answer to {command} within {timeout_s:g} s"
            self._stop.set()
            raise UnknownOutcomeError(f"{self.origin}: {self._cause}") from error
        except qmp.ExecuteError as error:
            reason = shown(str(error))
            raise CommandRefusedError(
                f"{self.origin} refused {command}: {reason}",
                error_class=error.error_class,
                reason=reason,
            ) from error
        except (qmp.ExecInterruptedError, qmp.StateError) as error:
            await self._ended.wait()
            raise self.lost(f"after {command}") from error
        except qmp.QMPError as error:
            raise PeerError(
                f"{self.origin}: the answer to {command} is not QMP: {shown(str(error))}"
            ) from error
        return Reply.received(value, f"{command} of {self.origin}")

    @contextlib.contextmanager
    def events(self, *names: str) -> Iterator[EventStream]:
        """Open a stream of the events ``names``; open it before the request that causes them."""
        stream = EventStream(self, frozenset(names))
        self._streams.append(stream)
        try:
            with self._client.listen(stream):
                yield stream
        finally:
            self._streams.remove(stream)

    def lost(self, when: str) -> ConnectionLostError:
        """Return the error with the cause of the connection's end."""
        return ConnectionLostError(f"{self.origin}: connection lost {when}: {self._cause}")

    async def close(self) -> None:
        """Close the connection. May be repeated."""
        self._stop.set()
        await asyncio.wait({self._attendant}, timeout=_CLOSE_TIMEOUT_S)
        if not self._attendant.done():
            self._attendant.cancel()  # the peer reads nothing; the socket is closed with the loop

    async def _attend(self) -> None:
        """Wait for the end of the connection, and record its cause."""
        stop = asyncio.create_task(self._stop.wait())
        while self._client.runstate is qmp.Runstate.RUNNING and not stop.done():
            changed = asyncio.create_task(self._client.runstate_changed())
            await asyncio.wait({stop, changed}, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
        stop.cancel()
        try:
            await self._client.disconnect()
        except _READER_ERRORS as error:
            self._cause = _cause_of(error)
        finally:
            self._ended.set()
            for stream in self._streams:
                stream.wake()


def _nothing(_event: qmp.Message) -> bool:
    """Keep the library's own listener empty: it would keep every event without limit."""
    return False


def _cause_of(error: BaseException) -> str:
    match error:
        case EOFError():
            return "the other end closed it"
        case OSError():
            return error.strerror or str(error)
        case qmp.QMPError() | UnicodeDecodeError():
            return f"it sent what is not QMP ({type(error).__name__})"
        case ValueError():
            return f"it sent a line longer than {_MAX_ANSWER_BYTES // 2**20} MiB"
        case _:
            return f"it sent what cannot be read ({type(error).__name__})"


def _why_not_connected(origin: str, error: Exception) -> PeerError:
    match error:
        case FileNotFoundError() | ConnectionRefusedError():
            return GoneError(
                f"{origin}: nothing listens there ({error.strerror})",
                hint="check that the VM runs and that the socket's path is right",
            )
        case PermissionError():
            return PeerError(f"{origin}: {error.strerror}", hint="run as root or as QEMU's user")
        case _:
            return PeerError(
                f"{origin}: no QMP session: {_cause_of(error)}",
                hint="check that the path is a QMP socket of this VM",
            )
