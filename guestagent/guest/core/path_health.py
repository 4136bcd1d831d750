"""Path health of one pair: whether the gateway answers through its VF. Pure.

The gateway is probed through the active port only; from the standby a probe would
move the MAC in a learning switch. If it does not answer while the VF carries
the traffic, the VF is avoided for a hold-down that doubles with each failure
in a row. The VF is then tried again, and once it has carried the traffic
without a failure for as long as the last hold-down, the count starts anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from guestagent.guest.core.pair import Role

MISSES = 2
"""Rounds in a row without an answer until the VF is avoided; one may be the gateway's pause."""
MAX_HOLD_DOWN_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PathHealth:
    """Record of the path behind one VF; times are monotonic seconds."""

    hold_down_s: float
    misses: int = 0
    failures: int = 0
    """Number of hold-downs in a row."""
    avoided_until_s: float | None = None
    good_since_s: float | None = None

    def avoided(self, now_s: float) -> bool:
        """Whether the VF must not carry the traffic now."""
        return self.avoided_until_s is not None and now_s < self.avoided_until_s

    def noted(self, role: Role, *, reachable: bool, now_s: float) -> PathHealth:
        """Return the record after a round through the port with ``role``."""
        if role is Role.STANDBY:
            # There is no better port than the standby, so the answer has no consequence.
            return replace(self, misses=0, good_since_s=None)
        if not reachable:
            return self._missed(now_s)
        since = now_s if self.good_since_s is None else self.good_since_s
        proven = now_s - since >= self.last_hold_down_s
        failures = 0 if proven else self.failures
        return replace(self, misses=0, good_since_s=since, failures=failures)

    @property
    def last_hold_down_s(self) -> float:
        """Length of the last hold-down, or of the first one to come."""
        doubled = self.hold_down_s * 2.0 ** max(0, min(self.failures, 30) - 1)
        return min(doubled, MAX_HOLD_DOWN_S)

    def _missed(self, now_s: float) -> PathHealth:
        misses = self.misses + 1
        if misses < MISSES:
            return replace(self, misses=misses, good_since_s=None)
        left = replace(self, misses=0, failures=self.failures + 1, good_since_s=None)
        return replace(left, avoided_until_s=now_s + left.last_hold_down_s)
