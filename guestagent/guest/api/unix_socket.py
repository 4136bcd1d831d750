"""The control socket, for root and perhaps a group: see guestagent.guest.api.server."""

from __future__ import annotations

import asyncio
import grp
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

from guestagent.errors import BusyError, ConfigurationError
from guestagent.guest.api.server import Handler, serve_stream
from guestagent.protocol import SOCKET, encode_error

CLIENTS_AT_ONCE = 16
_CHUNK_BYTES = 16 * 1024
_log = logging.getLogger("guestagent.control")


class ControlSocket:
    """The listening socket."""

    def __init__(self, handler: Handler, path: Path = SOCKET, *, group: str | None = None) -> None:
        self._handler = handler
        self._path = path
        self._group = group
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen. Raises OSError, and ConfigurationError for a group that cannot be served."""
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, path=self._path)
        self._path.chmod(0o600)
        if self._group is not None:
            self._open_to(self._group)

    def _open_to(self, group: str) -> None:
        """Permit a group to use the socket; the agent must be a member of it."""
        try:
            os.chown(self._path, -1, grp.getgrnam(group).gr_gid)
        except (KeyError, PermissionError) as error:
            raise ConfigurationError(
                f"control-group {group} cannot be given the control socket: {error}",
                hint=f"create the group, and set SupplementaryGroups={group} and"
                " SystemCallFilter=@chown in a drop-in (systemctl edit guestagent)",
            ) from error
        self._path.chmod(0o660)

    async def stop(self) -> None:
        """Stop listening, disconnect the clients and remove the socket."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
        for writer in tuple(self._clients):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def send(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        self._clients.add(writer)
        try:
            if len(self._clients) > CLIENTS_AT_ONCE:
                busy = BusyError(f"{CLIENTS_AT_ONCE} clients are connected", hint="try again")
                await send(encode_error(None, busy))
            else:
                await serve_stream(_chunks(reader), send, self._handler)
        except ConnectionError as error:
            _log.debug("a client left: %s", error)
        finally:
            self._clients.discard(writer)
            writer.close()


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while data := await reader.read(_CHUNK_BYTES):
        yield data
