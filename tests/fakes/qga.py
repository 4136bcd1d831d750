"""A fake qemu-ga: a socket without a greeting, one guest behind all connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fakes.serving import close

INTERFACES = [
    {
        "name": "bond0",
        "hardware-address": "52:54:00:AA:00:01",
        "ip-addresses": [
            {"ip-address": "198.18.0.10", "ip-address-type": "ipv4", "prefix": 24},
            {"ip-address": "fe80::1", "ip-address-type": "ipv6", "prefix": 64},
        ],
    },
    {"name": "sit0"},
]


@dataclass(slots=True, kw_only=True)
class FakeGuestAgent:
    """Answers ``guest-sync``, ``guest-network-get-interfaces`` and, if asked to, ``guest-exec``.

    ``stale`` are lines that an earlier client left in the channel: the next client gets
    them first. ``silent`` never answers. ``raw`` is sent in
    place of the answer to the interfaces; ``interfaces`` may be a function.
    """

    path: Path
    interfaces: object = field(default_factory=lambda: INTERFACES)
    silent: bool = False
    stale: list[dict[str, Any]] = field(default_factory=list)
    raw: bytes | None = None
    program: str | None = None
    """Output of a program that is run, in base64; None if guest-exec is disabled."""
    executed: list[dict[str, Any]] = field(default_factory=list)
    listed: int = 0
    """How often the interfaces were asked for."""

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[FakeGuestAgent]:
        """Listen on the socket for as long as the context lasts."""
        server = await asyncio.start_unix_server(self._serve, self.path)
        try:
            yield self
        finally:
            await close(server)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        text = ""
        decoder = json.JSONDecoder()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                text += data.decode()
                while text := text.lstrip():
                    try:
                        request, end = decoder.raw_decode(text)
                    except ValueError:
                        break
                    text = text[end:]
                    self._answer(request, writer)
        writer.close()

    def _answer(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        if self.silent:
            return
        for line in self.stale:
            writer.write(json.dumps(line).encode() + b"\n")
        self.stale.clear()
        match request["execute"]:
            case "guest-sync":
                value: object = request["arguments"]["id"]
            case "guest-network-get-interfaces" if self.raw is not None:
                writer.write(self.raw)
                return
            case "guest-exec" if self.program is not None:
                self.executed.append(request["arguments"])
                value = {"pid": len(self.executed)}
            case "guest-exec-status":
                value = {"exited": True, "exitcode": 0, "out-data": self.program}
            case "guest-network-get-interfaces":
                self.listed += 1
                value = self.interfaces() if callable(self.interfaces) else self.interfaces
            case blocked:
                error = {"class": "CommandNotFound", "desc": f"{blocked} has been disabled"}
                writer.write(json.dumps({"id": request["id"], "error": error}).encode() + b"\n")
                return
        writer.write(json.dumps({"id": request["id"], "return": value}).encode() + b"\n")
