"""RPC client: the QEMU, the guest and the VFs of another host, through ``serve`` over ssh.

The answers of the far end are bounded like a guest's in length, time and type. When the far end
dies during a call, the outcome is unknown; the next call makes a new connection. Its stderr and
that of ssh are passed on, and the last lines are part of the error when there is no answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from guestagent import errors
from guestagent.clock import Deadline
from guestagent.forwarding import Call, Forwarder
from guestagent.host.hypervisor.base import ConnectionLostError, Guest, MigrationDestination
from guestagent.host.hypervisor.reply import shown
from guestagent.host.model import End, Moment, QemuState, Vm
from guestagent.host.remote import rpc
from guestagent.host.remote.rpc import Hello
from guestagent.host.sriov.base import VfPool

CONNECT_S = 30.0
MARGIN_S = 15.0
VF_S = 120.0
_COMMANDS = {
    "look": 4,
    "plug": 1,
    "expect_migration": 4,
    "proceed": 2,
    "topology": 10,
    "means": 4,
}
"""The commands that QEMU executes in a call, beyond the time that the call grants."""
_LAST_LINES_S = 1.0
_RECONNECT_POLL_S = 0.5
_URL = re.compile(r"ssh://(?:([\w.-]+)@)?([A-Za-z0-9][\w.-]*|\[[0-9a-f:]+\])(?::(\d{1,5}))?")


def ssh_command(url: str, program: Sequence[str] = ("guestagent-host", "serve")) -> list[str]:
    """Return the command that reaches ``ssh://[user@]host[:port]``. Raises ConfigurationError.

    ssh asks for no password, and a host that is silent for 15 s counts as lost.
    """
    match = _URL.fullmatch(url)
    if match is None:
        raise errors.ConfigurationError(
            f"{url!r} is no URL of a host", hint="write it as ssh://host, or ssh://user@host:port"
        )
    user, host, port = match.groups()
    options = ["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15"]
    options += ["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"]
    options += ["-p", port] if port else []
    options += ["-l", user] if user else []
    return ["ssh", *options, "--", host.strip("[]"), *program]


class Remote:
    """The far end; one call at a time."""

    def __init__(self, command: Sequence[str], hello: Hello, *, origin: str) -> None:
        self.origin = origin
        self.command_s = hello.command_s
        self._command = command
        self._hello = hello
        self._process: asyncio.subprocess.Process | None = None
        self._listener: asyncio.Task[None] | None = None
        self._last_lines: deque[str] = deque(maxlen=2)
        self._turn = asyncio.Lock()
        self._ident = 0
        self._was_connected = False

    async def call(self, name: str, *arguments: object, timeout_s: float) -> Any:
        """Make a call and return its result.

        Raises the error of the far end; UnknownOutcomeError if the call was made and no answer
        came; PeerError if the far end cannot be reached.
        """
        async with self._turn:
            if self._process is None:
                await self._reconnect()
            return await self._exchange(name, arguments, timeout_s + MARGIN_S)

    async def close(self) -> None:
        """Close the connection; the far end exits."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(MARGIN_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        await self._read_last_lines()

    async def _reconnect(self) -> None:
        """Connect; the far end of a lost connection may still be busy with its last call."""
        deadline = Deadline.after(CONNECT_S if self._was_connected else 0.0)
        while True:
            try:
                await self._connect()
            except errors.BusyError:
                if deadline.expired:
                    raise
                await asyncio.sleep(_RECONNECT_POLL_S)
            else:
                self._was_connected = True
                return

    async def _connect(self) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=rpc.MAX_LINE_BYTES,
                start_new_session=True,  # Ctrl-C is for this process, which cancels in order
            )
        except OSError as error:
            raise errors.PeerError(
                f"{self.origin}: {self._command[0]}: {error.strerror}"
            ) from error
        self._process = process
        self._last_lines.clear()
        self._listener = asyncio.create_task(self._listen(process.stderr))
        try:
            await self._exchange("hello", (self._hello,), CONNECT_S)
        except errors.UnknownOutcomeError as error:
            output = "; ".join(self._last_lines) or str(error)
            raise errors.PeerError(
                f"{self.origin}: guestagent-host does not answer there: {output}",
                hint="check that ssh reaches it without a password, as a user that may run it",
            ) from error
        except errors.GuestAgentError:
            await self._drop()
            raise

    async def _listen(self, stderr: asyncio.StreamReader | None) -> None:
        """Pass on the stderr of ssh and of the far end, and keep the last lines."""
        while stderr is not None and (output := await stderr.read(4096)):
            with contextlib.suppress(OSError):  # a terminal that has gone
                sys.stderr.write(output.decode(errors="replace"))
            lines = (shown(line.decode(errors="replace").strip()) for line in output.splitlines())
            self._last_lines.extend(line for line in lines if line)

    async def _exchange(self, name: str, arguments: tuple[object, ...], timeout_s: float) -> Any:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise errors.PeerError(f"{self.origin}: not connected")
        self._ident += 1
        try:
            async with asyncio.timeout(timeout_s):
                process.stdin.write(rpc.request(self._ident, name, arguments))
                await process.stdin.drain()
                while not (line := await process.stdout.readuntil(b"\n")).strip():
                    pass  # a sign of life
            return rpc.read_answer(line, self._ident, name, self.origin)
        except TimeoutError as error:
            await self._drop()
            raise errors.UnknownOutcomeError(
                f"{self.origin}: no answer to {name} within {timeout_s:g} s"
            ) from error
        except (asyncio.IncompleteReadError, OSError) as error:
            await self._read_last_lines()
            await self._drop()
            raise ConnectionLostError(f"{self.origin}: connection lost after {name}") from error
        except asyncio.LimitOverrunError as error:
            await self._drop()
            raise errors.UnknownOutcomeError(
                f"{self.origin}: {name}: the answer is too long"
            ) from error
        except errors.UnknownOutcomeError:
            await self._drop()  # the next line may answer this call
            raise

    async def _read_last_lines(self) -> None:
        """Read the last lines of a far end that closed the connection."""
        if self._listener is not None:
            await asyncio.wait({self._listener}, timeout=_LAST_LINES_S)

    async def _drop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if self._listener is not None:
            self._listener.cancel()


class _RemoteDestination(Forwarder):
    """The destination on the far host; its moments are not comparable with this host's clock."""

    moments: tuple[Moment, ...] = ()

    def __init__(self, remote: Remote) -> None:
        super().__init__(rpc.DESTINATION, self._ask)
        self._remote = remote

    async def look(self) -> QemuState:
        call = rpc.DESTINATION["look"]
        try:
            try:
                state = await self._ask("look", call, ())
            except ConnectionLostError:
                state = await self._ask("look", call, ())
        except errors.GuestAgentError as error:
            return QemuState(end=End.DESTINATION, unreachable=str(error))
        return cast("QemuState", state)

    async def close(self) -> None:
        await self._remote.close()

    async def _ask(self, name: str, call: Call, arguments: tuple[object, ...]) -> object:
        limit_s = _COMMANDS.get(name, 0) * self._remote.command_s + _timeout_s(call, arguments)
        if name == "unplug":
            limit_s *= 2
        return await self._remote.call(name, *arguments, timeout_s=limit_s)


def remote_of(vm: Vm) -> Remote | None:
    """Return the far end if the destination is on another host; it connects at the first call."""
    if vm.destination is None or vm.destination.host is None:
        return None
    host = vm.destination.host
    hello = Hello(vm=vm.name, sockets=vm.destination.endpoint, command_s=vm.timeouts.command_s)
    return Remote(ssh_command(host), hello, origin=host)


def remote_destination(remote: Remote) -> MigrationDestination:
    """Return the QEMU of the far host."""
    return cast("MigrationDestination", _RemoteDestination(remote))


def remote_guest(remote: Remote) -> Guest:
    """Return the agent in the guest that arrives at the far host."""
    return cast("Guest", Forwarder(rpc.GUEST, partial(_ask_in_vf_time, remote)))


def remote_pool(remote: Remote) -> VfPool:
    """Return the VFs of the far host."""
    return cast("VfPool", Forwarder(rpc.VFS, partial(_ask_in_vf_time, remote)))


async def _ask_in_vf_time(
    remote: Remote, name: str, call: Call, arguments: tuple[object, ...]
) -> object:
    limit_s = VF_S + _timeout_s(call, arguments)
    return await remote.call(name, *arguments, timeout_s=limit_s)


def _timeout_s(call: Call, arguments: tuple[object, ...]) -> float:
    """Return the time that a call grants to the far end."""
    granted = dict(zip(call.parameters, arguments, strict=True)).get("timeout_s", 0.0)
    return cast("float", granted)
