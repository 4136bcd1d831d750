"""A fake agent in a guest, as the host sees it: it obeys, or fails on request."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guestagent.host.model import GuestPair
from tests.fakes.serving import close


@dataclass(slots=True)
class FakeGuest:
    """A ``Guest`` that records the requests for each pair; ``failure`` is raised instead."""

    failure: Exception | None = None
    on_standby: set[str] = field(default_factory=set)
    bonds: tuple[str, ...] = ("52:54:00:aa:00:01",)
    log: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)

    async def pairs(self) -> tuple[GuestPair, ...]:
        if self.failure is not None:
            raise self.failure
        return tuple(
            GuestPair(mac=mac, bonded=True, uses_vf=mac not in self.on_standby)
            for mac in self.bonds
        )

    async def to_standby(self, macs: Sequence[str], *, hold_s: float) -> None:
        self.log.append(("standby", tuple(macs)))
        if self.failure is not None:
            raise self.failure
        self.on_standby |= set(macs)

    async def to_vf(self, macs: Sequence[str], *, timeout_s: float) -> None:
        self.log.append(("vf", tuple(macs)))
        if self.failure is not None:
            raise self.failure
        self.on_standby -= set(macs)


Answer = Callable[[dict[str, Any]], bytes]


def obedient(request: dict[str, Any]) -> bytes:
    """Answer that the request succeeded."""
    return _line({"v": 1, "id": request["id"], "ok": True, "result": {}})


def refusing(request: dict[str, Any]) -> bytes:
    """Answer with a refusal that contains control characters."""
    error = {"code": "failed", "message": "no\x1b[2J carrier", "hint": None}
    return _line({"v": 1, "id": request["id"], "ok": False, "error": error})


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


@dataclass(slots=True)
class FakeChannel:
    """The chardev of the agent's virtio-serial port; ``answer`` makes the bytes that come back.

    Empty bytes hang up instead of answering.
    """

    path: Path
    answer: Answer = obedient
    requests: list[dict[str, Any]] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[FakeChannel]:
        """Listen on the socket for as long as the context lasts."""
        conversations: set[asyncio.Task[None]] = set()

        def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            conversations.add(asyncio.create_task(self._serve(reader, writer)))

        server = await asyncio.start_unix_server(begin, self.path)
        try:
            yield self
        finally:
            await close(server)
            await asyncio.gather(*conversations)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                if not line.strip():
                    continue
                request = json.loads(line)
                self.requests.append(request)
                answer = self.answer(request)
                if not answer:
                    break
                writer.write(answer)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
