"""A virtio-serial port as a stream whose other end comes and goes.

While no host is connected the port always polls as hung up (K:
drivers/char/virtio_console.c, port_fops_poll (6.12)). The descriptor is
therefore watched edge by edge through an epoll instance of its own: a host that
connects, data, and room to write each wake it once, and an idle port costs no
wake-up.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Self

NAME = "org.guestagent.0"
DEVICES = (Path("/run/guestagent/dev"), Path("/dev"))
"""Directories of device nodes: guestagent.service has a private /dev, and the system's in /run."""
SEND_TIMEOUT_S = 5.0
_CHUNK_BYTES = 16 * 1024


def port_path() -> Path:
    """Return the path of the port to the host, whether it exists or not."""
    ports = [device / "virtio-ports" / NAME for device in DEVICES]
    return next((port for port in ports if port.exists()), ports[-1])


class SerialPort:
    """An open port; a context that closes it."""

    def __init__(self, path: Path) -> None:
        """Open the port. Raises OSError: FileNotFoundError without one, EBUSY when it is taken."""
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._fd, 0)
        self._epoll = select.epoll()
        self._epoll.register(self._fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        self._edge = asyncio.Event()
        self._edge.set()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._woken)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        os.close(self._fd)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield data from the next host that is connected, until it leaves.

        Raises OSError when the port has been removed.
        """
        talking = False
        while True:
            try:
                data = os.read(self._fd, _CHUNK_BYTES)
            except BlockingIOError:
                data = None
            if data:
                talking = True
                yield data
            elif data == b"" and talking:
                return
            else:
                await self._next_edge()

    async def left(self) -> None:
        """Return when a host that is connected, or connects, has left.

        A host that reconnects before its absence was seen has not left.
        """
        for away in (True, False):
            while self._hangs_up() is away:
                await self._next_edge()

    def _hangs_up(self) -> bool:
        return any(events & select.POLLHUP for _, events in self._poll.poll(0))

    async def send(self, data: bytes) -> None:
        """Send all data, or give up after SEND_TIMEOUT_S without a reader: the host has left."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                try:
                    await asyncio.wait_for(self._next_edge(), SEND_TIMEOUT_S)
                except TimeoutError:
                    return

    async def _next_edge(self) -> None:
        self._edge.clear()
        await self._edge.wait()

    def _woken(self) -> None:
        self._epoll.poll(0)
        self._edge.set()
