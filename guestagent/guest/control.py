"""The control socket: requests of the protocol in guestagent.wire, answered in order.

A client gets an answer to every line; garbage gets an error object. What a
client can use up is bounded: CLIENTS_AT_ONCE connections, MAX_LINE_BYTES a
line, one request of each at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from guestagent.errors import BusyError, GuestAgentError
from guestagent.wire import (
    MAX_LINE_BYTES,
    SOCKET,
    Request,
    WireError,
    encode_error,
    encode_result,
    parse_request,
)

CLIENTS_AT_ONCE = 16
Handler = Callable[[Request], Awaitable[Mapping[str, object]]]
_log = logging.getLogger("guestagent.control")


async def converse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler
) -> None:
    """Answer requests until the other side ends the conversation."""
    while True:
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            return
        except asyncio.LimitOverrunError as error:
            await reader.read(error.consumed)
            writer.write(encode_error(None, WireError(f"a line has over {MAX_LINE_BYTES} bytes")))
            await writer.drain()
            continue
        if line.strip():
            writer.write(await _answer(line, handler))
            await writer.drain()


async def _answer(line: bytes, handler: Handler) -> bytes:
    try:
        request = parse_request(line)
    except WireError as error:
        return encode_error(error.ident, error)
    try:
        return encode_result(request.id, await handler(request))
    except GuestAgentError as error:
        return encode_error(request.id, error)


class ControlSocket:
    """The listening socket; a context that removes it at its end."""

    def __init__(self, handler: Handler, path: Path = SOCKET) -> None:
        self._handler = handler
        self._path = path
        self._server: asyncio.Server | None = None
        self._clients = 0

    async def start(self) -> None:
        """Listen, for root only. Raises OSError."""
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(
            self._serve, path=self._path, limit=MAX_LINE_BYTES
        )
        self._path.chmod(0o600)

    async def stop(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            if self._clients > CLIENTS_AT_ONCE:
                busy = BusyError(f"{CLIENTS_AT_ONCE} clients are connected", hint="try again")
                writer.write(encode_error(None, busy))
                await writer.drain()
            else:
                await converse(reader, writer, self._handler)
        except (ConnectionError, BrokenPipeError) as error:
            _log.debug("a client left: %s", error)
        finally:
            self._clients -= 1
            writer.close()
