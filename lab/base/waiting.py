"""Waiting for a condition that has no event."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from guestagent.clock import Deadline
from guestagent.errors import DeadlineError

T = TypeVar("T")

INTERVAL_S = 0.05


def wait_until(
    what: str, condition: Callable[[], T], *, timeout_s: float, interval_s: float = INTERVAL_S
) -> T:
    """Call ``condition`` until what it returns is true, and return that.

    :raise DeadlineError: it was not within ``timeout_s``; the text carries the last value.
    """
    deadline = Deadline.after(timeout_s)
    while not (value := condition()):
        if deadline.expired:
            raise DeadlineError(f"not within {timeout_s} s: {what}; last seen: {value!r}")
        time.sleep(interval_s)
    return value
