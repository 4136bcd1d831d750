"""How long observed states have lasted: the only memory between two observations."""

from __future__ import annotations

import time

from guestagent.clock import Clock


class Stability:
    """The time since which each key has had its present value, in monotonic seconds."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[object, tuple[object, float]] = {}
        self._next: float | None = None

    def begin(self) -> None:
        """Start a new observation, which waits for nothing yet."""
        self._next = None

    def held_for(self, key: object, value: object, duration_s: float) -> bool:
        """Whether ``key`` has had this value for ``duration_s``; otherwise it is waited for."""
        now = self._clock()
        known = self._since.get(key)
        if known is None or known[0] != value:
            known = (value, now)
            self._since[key] = known
        due = known[1] + duration_s
        if now >= due:
            return True
        self._next = due if self._next is None else min(self._next, due)
        return False

    def keep(self, keys: set[object]) -> None:
        """Forget all but these keys."""
        self._since = {key: value for key, value in self._since.items() if key in keys}

    @property
    def next_s(self) -> float | None:
        """Seconds until the first state that this observation waits for has lasted, or None."""
        return None if self._next is None else max(0.0, self._next - self._clock())
