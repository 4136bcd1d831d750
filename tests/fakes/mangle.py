"""A wire between a peer and its client that does to the peer's bytes what it is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tests.fakes.serving import close

MOST_FLOOD_BYTES = 64 * 1024 * 1024
_SLICE = 64 * 1024


class Harm(StrEnum):
    """Fault of the stream after ``at`` bytes."""

    CUT = "cut"  # the peer is gone
    SILENCE = "silence"  # nothing more comes, and nothing ends
    INSERT = "insert"  # ``data`` come in between
    REPLACE = "replace"  # ``data`` come in place of as many
    REPEAT = "repeat"  # what came so far comes again
    FLOOD = "flood"  # ``data`` come again and again
    DRIP = "drip"  # one byte at a time


@dataclass(slots=True, kw_only=True)
class Wire:
    """Listens on ``path`` and passes everything to ``peer``, with one harm for each connection.

    ``flooded`` counts how many bytes of a flood were taken.
    """

    path: Path
    peer: Path
    harm: Harm
    at: int
    data: bytes = b""
    flooded: int = 0
    _ends: list[asyncio.StreamWriter] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Wire]:
        """Listen for as long as the context lasts."""

        def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._ends.append(writer)
            self._tasks.add(asyncio.create_task(self._serve(reader, writer)))

        server = await asyncio.start_unix_server(begin, self.path)
        try:
            yield self
        finally:
            await close(server)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for end in self._ends:
                end.transport.abort()
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_peer, to_peer = await asyncio.open_unix_connection(self.peer)
        self._ends.append(to_peer)
        copying = asyncio.create_task(_copy(reader, to_peer))
        try:
            with contextlib.suppress(ConnectionError):
                await self._pass_on(from_peer, writer)
        finally:
            copying.cancel()
            await asyncio.wait({copying})
            to_peer.transport.abort()
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen = b""
        while data := await reader.read(_SLICE):
            left = self.at - len(seen)
            seen += data
            if 0 <= left <= len(data):
                writer.write(data[:left])
                data = await self._harmed(seen[: self.at], data[left:], writer)
            writer.write(data)
            await writer.drain()

    async def _harmed(self, before: bytes, after: bytes, writer: asyncio.StreamWriter) -> bytes:
        match self.harm:
            case Harm.CUT:
                raise ConnectionResetError
            case Harm.SILENCE:
                await writer.drain()
                await asyncio.Event().wait()
            case Harm.INSERT:
                return self.data + after
            case Harm.REPLACE:
                return self.data + after[len(self.data) :]
            case Harm.REPEAT:
                return before + after
            case Harm.FLOOD:
                await self._flood(writer)
            case Harm.DRIP:
                for byte in after:
                    writer.write(bytes([byte]))
                    await writer.drain()
                return b""
        return after

    async def _flood(self, writer: asyncio.StreamWriter) -> None:
        piece = self.data * max(1, _SLICE // max(1, len(self.data)))
        while piece and self.flooded < MOST_FLOOD_BYTES:
            writer.write(piece)
            await writer.drain()
            self.flooded += len(piece)
            await asyncio.sleep(0)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_SLICE):
            writer.write(data)
            await writer.drain()
    writer.close()
