"""RPC server for the destination host; started over ssh, serves one connection on stdin/stdout.

It ends with the connection, and holds the lock of the VM on this host for that long. It decides
nothing and keeps no state: the near end queries the outcome of a lost call.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from guestagent.errors import GuestAgentError, PeerError
from guestagent.host.hypervisor.connect import agent_of
from guestagent.host.hypervisor.qmp.qemu import Qemu
from guestagent.host.model import End
from guestagent.host.remote import rpc
from guestagent.host.remote.rpc import Hello
from guestagent.host.sriov.base import LocalVfPool
from guestagent.host.sriov.pool import host_pool
from guestagent.host.store.lock import vm_lock
from guestagent.json_fields import JsonError

SIGN_OF_LIFE_S = 15.0
"""Seconds without a call after which an empty line is sent.

The line lets sshd detect a near end that lost its network, which it does not probe for by
default (ClientAliveInterval of sshd_config(5)): the lock of the VM would be held for hours.
"""


class Server:
    """One connection, about one VM."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._targets: Mapping[str, object] = {}
        self._lock = ExitStack()
        self._qemu: Qemu | None = None
        self._pool: LocalVfPool | None = None

    async def serve(self, lines: asyncio.StreamReader, write: Callable[[bytes], None]) -> None:
        """Answer one call after the other until the near end closes the connection."""
        try:
            while True:
                try:
                    async with asyncio.timeout(SIGN_OF_LIFE_S):
                        line = await lines.readuntil(b"\n")
                except TimeoutError:
                    write(b"\n")
                    continue
                except asyncio.IncompleteReadError:
                    return
                except asyncio.LimitOverrunError:
                    write(rpc.failure(None, PeerError("the line is too long")))
                    return
                write(await self._answer(line))
        finally:
            await self._close()

    async def _answer(self, line: bytes) -> bytes:
        ident: int | None = None
        try:
            ident, name, arguments = rpc.read_request(line)
            if name == "hello":
                self._begin(*arguments)
                return rpc.answer(ident, None)
            target = self._targets.get(name)
            if target is None:
                raise PeerError(
                    f"{name}: hello has to come first, or no such endpoint is described"
                )
            return rpc.answer(ident, await rpc.CALLS[name].on(target, arguments))
        except JsonError as error:
            return rpc.failure(ident, PeerError(f"not a call: {error}"))
        except GuestAgentError as error:
            return rpc.failure(ident, error)

    def _begin(self, hello: Hello) -> None:
        if self._qemu is not None:
            raise PeerError("a second hello")
        self._lock.enter_context(vm_lock(self._state_dir, hello.vm))
        qemu = Qemu(hello.sockets.qmp, End.DESTINATION, timeout_s=hello.command_s)
        pool = host_pool(self._state_dir)
        self._qemu, self._pool = qemu, pool
        guest = agent_of(hello.sockets, hello.command_s)
        self._targets = {
            **dict.fromkeys(rpc.DESTINATION, qemu),
            **dict.fromkeys(rpc.VFS, pool),
            **({} if guest is None else dict.fromkeys(rpc.GUEST, guest)),
        }

    async def _close(self) -> None:
        with self._lock:
            if self._qemu is not None:
                await self._qemu.close()
            if self._pool is not None:
                await self._pool.close()


async def serve_stdio(state_dir: Path) -> None:
    """Serve the process's own stdin and stdout."""
    reader = asyncio.StreamReader(limit=rpc.MAX_LINE_BYTES)
    loop = asyncio.get_running_loop()
    protocol: Any = asyncio.StreamReaderProtocol(reader)
    await loop.connect_read_pipe(lambda: protocol, sys.stdin.buffer)

    def write(line: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()

    await Server(state_dir).serve(reader, write)
