"""The one thread that owns the engine: all kernel work of the process is done in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from guestagent.guest.reconcile.engine import Engine

_P = ParamSpec("_P")
_T = TypeVar("_T")


class KernelThread:
    """Runs methods of the engine, which is made in the thread at the first call."""

    def __init__(self, make_engine: Callable[[], Engine]) -> None:
        self._make_engine = make_engine
        self._engine: Engine | None = None
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kernel")

    async def run(
        self, work: Callable[Concatenate[Engine, _P], _T], *args: _P.args, **named: _P.kwargs
    ) -> _T:
        """Return the result of ``work`` on the engine. Raises what it raises."""

        def in_thread() -> _T:
            if self._engine is None:
                self._engine = self._make_engine()
            return work(self._engine, *args, **named)

        return await asyncio.get_running_loop().run_in_executor(self._pool, in_thread)

    async def close(self) -> None:
        """Close the engine and end the thread."""
        if self._engine is not None:
            await self.run(Engine.close)
        self._pool.shutdown()
