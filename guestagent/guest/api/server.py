"""Server of the agent's protocol on any byte stream.

Every line gets one answer, in order; an invalid line gets an error object and the
stream goes on. The resources of a client are bounded: MAX_LINE_BYTES of an
unfinished line, one request at a time, and REQUESTS_PER_S in the long run; faster
requests wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from guestagent.errors import GuestAgentError
from guestagent.protocol import (
    MAX_LINE_BYTES,
    Request,
    WireError,
    encode_error,
    encode_result,
    parse_request,
)

REQUESTS_PER_S = 50.0
BURST = 20
Handler = Callable[[Request], Awaitable[Mapping[str, object]]]


class LineSplitter:
    """Splits a stream into lines and buffers at most one line."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes | WireError]:
        """Return the lines that are complete now; an error takes the place of a line too long."""
        found: list[bytes | WireError] = []
        *ended, self._rest = (self._rest + data).split(b"\n")
        for line in ended:
            if self._skipping:
                self._skipping = False
            elif len(line) > MAX_LINE_BYTES:
                found.append(_too_long())
            elif line.strip():
                found.append(line)
        if len(self._rest) > MAX_LINE_BYTES:
            if not self._skipping:
                found.append(_too_long())
            self._skipping = True
            self._rest = b""
        return found


class RateLimiter:
    """Permits BURST requests at once and then REQUESTS_PER_S."""

    def __init__(self) -> None:
        self._ready_s = 0.0

    async def wait(self) -> None:
        """Wait until the next request may be served."""
        now = asyncio.get_running_loop().time()
        self._ready_s = max(self._ready_s, now - BURST / REQUESTS_PER_S) + 1 / REQUESTS_PER_S
        if self._ready_s > now:
            await asyncio.sleep(self._ready_s - now)


async def serve_stream(
    incoming: AsyncIterator[bytes],
    send: Callable[[bytes], Awaitable[None]],
    handler: Handler,
) -> None:
    """Answer the requests of a stream until it ends."""
    splitter, limiter = LineSplitter(), RateLimiter()
    async for data in incoming:
        for line in splitter.feed(data):
            await limiter.wait()
            await send(await _answer(line, handler))


async def _answer(line: bytes | WireError, handler: Handler) -> bytes:
    try:
        if isinstance(line, WireError):
            raise line
        request = parse_request(line)
    except WireError as error:
        return encode_error(error.ident, error)
    try:
        return encode_result(request.id, await handler(request))
    except GuestAgentError as error:
        return encode_error(request.id, error)


def _too_long() -> WireError:
    return WireError(f"a line may have {MAX_LINE_BYTES} bytes")
