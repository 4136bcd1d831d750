"""Channel to the host: the virtio-serial port, which may come and go at any time."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

from guestagent.guest.api.serial_port import SerialPort, port_path
from guestagent.guest.api.server import Handler, serve_stream
from guestagent.guest.core.journal_ids import JournalId, fields

UNFINISHED_S = 1.0
"""Time after which the request of a host that has left is cancelled; it may take minutes."""
_log = logging.getLogger("guestagent.channel")


class HostChannel:
    """Answers the host on its port while there is one."""

    def __init__(self, handler: Handler, path: Callable[[], Path] = port_path) -> None:
        """``path`` returns the path of the port; it is called before each attempt."""
        self._handler = handler
        self._path = path
        self._changed = asyncio.Event()

    def device_changed(self) -> None:
        """Try again: udev has processed a virtio-serial port."""
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
                        await self._serve_host(port)
            except FileNotFoundError:
                _log.debug("no channel to the host: %s does not exist", path)
            except PermissionError:
                hint = "it came after this service began; systemctl restart guestagent"
                _log.warning("the channel to the host cannot be opened: %s: %s", path, hint)
            except OSError as error:
                level = logging.INFO if error.errno == errno.ENODEV else logging.WARNING
                _log.log(level, "the channel to the host is closed: %s", error)
            await self._changed.wait()

    async def _serve_host(self, port: SerialPort) -> None:
        """Serve one host until it leaves. Raises OSError when the port has been removed.

        Each host gets a stream of its own: an unfinished line or request of the host before must
        not delay its first line.
        """
        async with aclosing(port.chunks()) as chunks:
            talk = asyncio.ensure_future(serve_stream(chunks, port.send, self._handler))
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
