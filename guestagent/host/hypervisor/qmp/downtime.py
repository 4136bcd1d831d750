"""The downtime limit of a migration: short at first, raised to the configured one. Pure.

QEMU stops the guest as soon as the remaining memory fits into its downtime limit (Q:
migration/migration.c, migration_iteration_run (10.0)), although another pass over a guest that has
just been disturbed, as by the removal of a VF, would leave less. So it is given a short limit,
which is doubled from the end of the first pass on: a guest that calms down stops for a short time,
and one that does not stops within the limit some seconds later.
"""

from __future__ import annotations

from guestagent.clock import Clock

FIRST_MS = 10
RAISE_EVERY_S = 0.5


def first_limit_ms(limit_ms: int) -> int:
    """Return the first limit of a migration that may stop the guest for ``limit_ms``."""
    return min(FIRST_MS, limit_ms)


class DowntimeRamp:
    """The limit of one migration under way; ``present_ms`` is QEMU's present one.

    It depends on time alone once the first pass is over, so that nothing which a
    guest or a device does keeps the limit from being reached.
    """

    def __init__(self, *, present_ms: int, limit_ms: int, clock: Clock) -> None:
        self._present_ms = present_ms
        self._limit_ms = limit_ms
        self._clock = clock
        self._next_s: float | None = None

    def raised_ms(self, *, passes: int, remaining_bytes: int) -> int | None:
        """Return the limit to set now, or None if it stays.

        ``passes`` counts how often QEMU has looked for dirty pages, which it does as
        the first pass begins; ``remaining_bytes`` are those it knows of.
        """
        if self._present_ms >= self._limit_ms or (passes < 2 and remaining_bytes > 0):
            return None
        now_s = self._clock()
        if self._next_s is None:
            self._next_s = now_s + RAISE_EVERY_S
        if now_s < self._next_s:
            return None
        self._next_s = now_s + RAISE_EVERY_S
        self._present_ms = min(max(2 * self._present_ms, FIRST_MS), self._limit_ms)
        return self._present_ms
