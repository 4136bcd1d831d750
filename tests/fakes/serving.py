"""The end of a fake's server."""

from __future__ import annotations

import asyncio

_TURNS = 10


async def close(server: asyncio.Server) -> None:
    """Stop listening, and leave no connection half accepted.

    asyncio loses a connection if its server closes between ``accept`` and the task that serves it
    (CPython: Lib/asyncio/base_events.py, Server._attach (3.11)), and warns of the open socket.
    """
    await _turns()
    server.close()
    await _turns()


async def _turns() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)
