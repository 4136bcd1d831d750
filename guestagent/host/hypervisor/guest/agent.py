"""Client of the agent in the guest: over virtio-serial, else through qemu-ga.

The answers are claims of the guest: they make a switch lossless and show when a VF is in use,
and nothing that must be safe depends on them. A request may be repeated without harm, so one
without an answer is repeated over the next transport. If none reaches the agent, the error
lists the guest's interfaces, which qemu-ga may tell even if ``guest-exec`` is disabled.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

from guestagent import protocol
from guestagent.clock import Deadline
from guestagent.errors import PeerError, UnknownOutcomeError
from guestagent.host.hypervisor.base import RefusedError
from guestagent.host.hypervisor.guest.qga import QemuGuestAgent
from guestagent.host.hypervisor.reply import shown
from guestagent.host.model import GuestInterface, GuestPair
from guestagent.json_fields import JsonError, Obj

CONNECT_TIMEOUT_S = 5.0
GREETING_TIMEOUT_S = 5.0
ANSWER_MARGIN_S = 15.0
"""Time for the answer, beyond the time that the guest is asked to wait."""
START_MARGIN_S = 30.0
"""Additional time for a busy guest to start the program that qemu-ga runs."""
MAX_STRAY_LINES = 64
"""Answers to requests of other clients that are skipped before giving up."""
LISTING_TIMEOUT_S = 5.0
"""Time for the guest to list its interfaces, with a new VF among them."""
_LISTING_PAUSE_S = 0.5
_LISTED = 8
_WHOLE_PAIR = 3
_MOST_PAIRS = 64


class AgentTransport(Protocol):
    """A transport of requests to the agent."""

    async def ask(self, request: str, arguments: dict[str, object], timeout_s: float) -> Obj:
        """Send a request and return the result in the agent's answer.

        Raises RefusedError when the agent refused, PeerError or UnknownOutcomeError when it
        gave no usable answer.
        """


class GuestAgentClient:
    """The agent in one guest, over the first transport that gets an answer.

    Without an answer ``qga_fallback`` lists the guest's interfaces for the error message. The
    list replaces no answer: it shows neither the NIC in use nor that a VF may be unplugged.
    """

    def __init__(
        self, transports: Sequence[AgentTransport], *, qga_fallback: QemuGuestAgent | None = None
    ) -> None:
        self._transports = transports
        self._qga_fallback = qga_fallback

    async def to_standby(self, macs: tuple[str, ...], *, hold_s: float) -> None:
        """Have the guest move its traffic to the standby for at most ``hold_s`` seconds.

        Returns when the guest has confirmed that for every pair.
        """
        for mac in macs:
            arguments: dict[str, object] = {"to": "standby", "bond": mac, "hold_s": hold_s}
            await self._ask("switch", arguments, ANSWER_MARGIN_S, mac=mac)

    async def to_vf(self, macs: tuple[str, ...], *, timeout_s: float) -> None:
        """End the holds and return when the guest has confirmed that every pair uses its VF."""
        for mac in macs:
            arguments: dict[str, object] = {"to": "auto", "bond": mac}
            # A guest that has not found its first VF yet has no pair, and so no hold.
            with contextlib.suppress(RefusedError):
                await self._ask("switch", arguments, ANSWER_MARGIN_S, mac=mac, enough=_WHOLE_PAIR)
        deadline = Deadline.after(timeout_s)
        for mac in macs:
            left_s = deadline.remaining_s
            arguments = {"active": "vf", "bond": mac, "timeout_s": left_s}
            margin_s = left_s + ANSWER_MARGIN_S
            await self._ask("wait", arguments, margin_s, mac=mac, enough=_WHOLE_PAIR)

    async def pairs(self) -> tuple[GuestPair, ...]:
        """See ``Guest.pairs``."""
        status = await self._ask("status", {}, ANSWER_MARGIN_S)
        try:
            return tuple(
                GuestPair(
                    mac=shown(item.string("mac")).lower(),
                    bonded=item.has("bond"),
                    uses_vf=item.optional_string("active") == "vf",
                )
                for item in islice(status.objects("pairs"), _MOST_PAIRS)
            )
        except JsonError as error:
            raise PeerError(f"the guest's agent: {shown(str(error))}") from error

    async def _ask(
        self,
        request: str,
        arguments: dict[str, object],
        timeout_s: float,
        *,
        mac: str | None = None,
        enough: int = 1,
    ) -> Obj:
        silent: list[str] = []
        for transport in self._transports:
            try:
                return await transport.ask(request, arguments, timeout_s)
            except RefusedError:
                raise
            except (PeerError, UnknownOutcomeError) as error:
                silent.append(str(error))
        if mac is not None:
            silent.extend(await self._listed(mac, enough))
        raise PeerError("; ".join(silent) or "no transport to the guest's agent is described")

    async def _listed(self, mac: str, enough: int) -> list[str]:
        """Describe the guest's interfaces with ``mac`` once there are ``enough``, or in time.

        Bond, standby and VF are three interfaces; no field distinguishes them. Empty if
        qemu-ga does not answer, which the error of its transport says already.
        """
        found: list[GuestInterface] | None = None
        with contextlib.suppress(TimeoutError, PeerError, UnknownOutcomeError):
            async with asyncio.timeout(LISTING_TIMEOUT_S):
                while self._qga_fallback is not None:
                    listed = await self._qga_fallback.interfaces()
                    found = [interface for interface in listed if interface.mac == mac]
                    if len(found) >= enough:
                        break
                    # There is no event for a new interface.
                    await asyncio.sleep(_LISTING_PAUSE_S)
        if found is None:
            return []
        names = ", ".join(_with_addresses(interface) for interface in found[:_LISTED])
        more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
        return [f"by qemu-ga the guest has {names or 'no interface'}{more} with {mac}"]


class SerialTransport:
    """The virtio-serial port ``org.guestagent.0``, behind a socket chardev of QEMU.

    QEMU serves one client at a time, so each request connects anew. An empty
    line goes first: it ends an unfinished request of another host.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def ask(self, request: str, arguments: dict[str, object], timeout_s: float) -> Obj:
        """See ``AgentTransport.ask``.

        A greeting goes first: an unread line waits in the port for an agent that starts
        later, and must not be a request to leave the VF.
        """
        origin = f"the guest's agent at {self._path}"
        async with self._connection(origin) as streams:
            await _exchange(streams, "hello", {}, GREETING_TIMEOUT_S, origin)
            answer = await _exchange(streams, request, arguments, timeout_s, origin)
        return _result_of(answer, f"{request}, {origin}")

    @contextlib.asynccontextmanager
    async def _connection(
        self, origin: str
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                streams = await asyncio.open_unix_connection(
                    self._path, limit=protocol.MAX_LINE_BYTES
                )
        except TimeoutError as error:
            raise PeerError(f"{origin}: no connection within {CONNECT_TIMEOUT_S:g} s") from error
        except OSError as error:
            raise PeerError(
                f"{origin}: {error.strerror or error}",
                hint="check the path: it is the chardev of virtio-serial port org.guestagent.0",
            ) from error
        try:
            yield streams
        finally:
            streams[1].close()
            with contextlib.suppress(OSError):
                await streams[1].wait_closed()


async def _exchange(
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    request: str,
    arguments: dict[str, object],
    timeout_s: float,
    origin: str,
) -> Obj:
    reader, writer = streams
    ident = f"{request} {secrets.token_hex(8)}"
    try:
        async with asyncio.timeout(timeout_s):
            writer.write(
                b"\n" + protocol.encode_request(request, ident=ident, arguments=arguments)
            )
            await writer.drain()
            return await _answer_to(ident, reader, origin)
    except TimeoutError as error:
        raise UnknownOutcomeError(
            f"{origin}: no answer to {request} within {timeout_s:g} s",
            hint="check that guestagent is installed and running in the guest",
        ) from error
    except OSError as error:
        raise UnknownOutcomeError(f"{origin}: lost after {request}: {error}") from error


async def _answer_to(ident: str, reader: asyncio.StreamReader, origin: str) -> Obj:
    """Return the answer with our id; skip answers to other clients."""
    for _ in range(MAX_STRAY_LINES):
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            raise UnknownOutcomeError(
                f"{origin}: it closed the connection without an answer"
            ) from error
        except asyncio.LimitOverrunError as error:
            raise PeerError(
                f"{origin}: an answer of over {protocol.MAX_LINE_BYTES} bytes"
            ) from error
        with contextlib.suppress(protocol.WireError):
            answer = protocol.parse_object(line)
            if answer.value.get("id") == ident:
                return answer
    raise PeerError(f"{origin}: {MAX_STRAY_LINES} lines and no answer among them")


class QgaExecTransport:
    """qemu-ga's ``guest-exec`` of the agent's own command line; often blocked by distributions."""

    def __init__(self, guest_agent: QemuGuestAgent) -> None:
        self._guest_agent = guest_agent

    async def ask(self, request: str, arguments: dict[str, object], timeout_s: float) -> Obj:
        """See ``AgentTransport.ask``; runs ``guestagent ask`` in the guest."""
        line = protocol.encode_request(request, ident=request, arguments=arguments)
        origin = f"guestagent, run by {self._guest_agent.origin}"
        try:
            status = await self._guest_agent.run(
                "/usr/bin/guestagent", ("ask",), stdin=line, timeout_s=timeout_s + START_MARGIN_S
            )
        except RefusedError as blocked:
            # The guest's administrator or qemu-ga refused, not the agent.
            raise PeerError(str(blocked)) from blocked
        try:
            output = base64.b64decode(status.output)
            answer = protocol.parse_object(output[: protocol.MAX_LINE_BYTES])
        except (ValueError, protocol.WireError) as error:
            raise PeerError(
                f"{origin} ended with {status.exit_code} and no answer",
                hint="check that guestagent is installed and running in the guest",
            ) from error
        return _result_of(answer, f"{request}, {origin}")


def _with_addresses(interface: GuestInterface) -> str:
    listed = " ".join(interface.addresses[:_LISTED])
    return f"{interface.name} ({listed})" if listed else interface.name


def _result_of(answer: Obj, what: str) -> Obj:
    """Return the result; raise RefusedError or PeerError where the answer has none."""
    try:
        if answer.boolean("ok"):
            return answer.object("result") if answer.has("result") else Obj({})
        message = answer.object("error").string("message")
    except JsonError as error:
        raise PeerError(
            f"{what}: the answer does not follow the agent's protocol: {shown(str(error))}"
        ) from error
    raise RefusedError(f"the guest refused {what}: {shown(message)}")
