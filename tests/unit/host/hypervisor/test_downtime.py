"""How long the guest may be stopped: short at first, as long as described in the end."""

from __future__ import annotations

from guestagent.host.hypervisor.qmp.downtime import RAISE_EVERY_S, DowntimeRamp, first_limit_ms


class Hand:
    """A clock that is moved by hand."""

    now_s = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


def limits_ms(ramp: DowntimeRamp, clock: Hand, *, seconds: float, passes: int) -> list[int]:
    """Return the limits that are set while some time passes."""
    found = []
    for _ in range(round(seconds / 0.1)):
        raised_ms = ramp.raised_ms(passes=passes, remaining_bytes=4096)
        if raised_ms is not None:
            found.append(raised_ms)
        clock.now_s += 0.1
    return found


def test_the_first_limit_is_short_and_never_above_the_configured_one() -> None:
    assert first_limit_ms(300) == 10
    assert first_limit_ms(3) == 3


def test_the_limit_is_doubled_after_the_first_pass_up_to_the_configured_one() -> None:
    clock = Hand()
    ramp = DowntimeRamp(present_ms=10, limit_ms=300, clock=clock)
    assert limits_ms(ramp, clock, seconds=60, passes=1) == []
    assert limits_ms(ramp, clock, seconds=7 * RAISE_EVERY_S, passes=2) == [20, 40, 80, 160, 300]
    assert limits_ms(ramp, clock, seconds=60, passes=9) == []


def test_the_limit_is_raised_if_no_second_pass_begins_with_nothing_left() -> None:
    clock = Hand()
    ramp = DowntimeRamp(present_ms=10, limit_ms=300, clock=clock)
    assert ramp.raised_ms(passes=1, remaining_bytes=0) is None
    clock.now_s += RAISE_EVERY_S
    assert ramp.raised_ms(passes=1, remaining_bytes=0) == 20


def test_a_ramp_continues_from_the_present_limit() -> None:
    clock = Hand()
    ramp = DowntimeRamp(present_ms=160, limit_ms=300, clock=clock)
    assert limits_ms(ramp, clock, seconds=7 * RAISE_EVERY_S, passes=2) == [300]


def test_a_limit_of_nothing_is_raised_too() -> None:
    clock = Hand()
    ramp = DowntimeRamp(present_ms=0, limit_ms=5, clock=clock)
    assert limits_ms(ramp, clock, seconds=7 * RAISE_EVERY_S, passes=2) == [5]
