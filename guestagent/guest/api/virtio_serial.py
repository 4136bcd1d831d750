"""The channel to the host: the virtio-serial port, which may come and go at any time."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

from guestagent.guest.api.serial_port import SerialPort, port_path
from guestagent.guest.api.server import Handler, converse
from guestagent.guest.core.journal_ids import JournalId, fields

UNFINISHED_S = 1.0
"""A request of a host that has left is given up then: it may wait for minutes."""
_log = logging.getLogger("guestagent.channel")


class HostChannel:
    """Answers the host on its port for as long as there is one."""

    def __init__(self, handler: Handler, path: Callable[[], Path] = port_path) -> None:
        """``path`` tells where the port is, or would be; it is asked before each try."""
        self._handler = handler
        self._path = path
        self._changed = asyncio.Event()

    def device_changed(self) -> None:
        """Tell that udev has processed a virtio-serial port."""
        self._changed.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            self._changed.clear()
            path = self._path()
            try:
                with SerialPort(path) as port:
                    extra = fields(JournalId.CHANNEL_OPEN)
                    _log.info("the channel to the host is open: %s", path, extra=extra)
                    while True:
                        await self._converse(port)
            except FileNotFoundError:
                _log.debug("no channel to the host: %s does not exist", path)
            except PermissionError:
                why = "it came after this service began; systemctl restart guestagent"
                _log.warning("the channel to the host cannot be opened: %s: %s", path, why)
            except OSError as error:
                level = logging.INFO if error.errno == errno.ENODEV else logging.WARNING
                _log.log(level, "the channel to the host is closed: %s", error)
            await self._changed.wait()

    async def _converse(self, port: SerialPort) -> None:
        """Serve one host until it leaves. Raises OSError when the port itself has gone.

        Each that connects begins a conversation of its own: what the one before left unfinished,
        or still waits for, must not stand before its line.
        """
        async with aclosing(port.chunks()) as chunks:
            talk = asyncio.ensure_future(converse(chunks, port.send, self._handler))
            left = asyncio.ensure_future(port.left())
            try:
                await asyncio.wait({talk, left}, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.wait({talk}, timeout=UNFINISHED_S)
            finally:
                for task in (talk, left):
                    task.cancel()
                await asyncio.wait({talk, left})
        if not talk.cancelled():
            talk.result()
