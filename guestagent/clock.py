"""Monotonic time as a value that is passed in, so that tests never sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], float]
"""Seconds of a monotonic clock; ``time.monotonic`` outside tests."""
Sleep = Callable[[float], None]
"""Waits for some seconds; ``time.sleep`` outside tests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """A point in monotonic time after which waiting ends."""

    at_s: float
    clock: Clock = time.monotonic

    @classmethod
    def after(cls, timeout_s: float, clock: Clock = time.monotonic) -> Deadline:
        """Return the deadline ``timeout_s`` seconds from now."""
        return cls(at_s=clock() + timeout_s, clock=clock)

    @property
    def remaining_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at_s - self.clock())

    @property
    def expired(self) -> bool:
        """Whether the point has passed."""
        return self.remaining_s == 0.0
