"""Packets that the probe counts as lost, and their times."""

from __future__ import annotations

import pytest

from lab.probe.accounting import ClockMap, Loss, Pause, account, longest_gap_ms


def losses(*sequences: int) -> list[Loss]:
    return [Loss(sequence=number, sent_at_s=number / 500) for number in sequences]


def test_what_arrives_is_not_lost() -> None:
    flow = account("udp-in", [0.0, 0.1, 0.2], [2, 0, 1])
    assert (flow.sent, flow.duplicates, flow.lost) == (3, 0, ())


def test_a_loss_carries_the_time_of_sending() -> None:
    flow = account("udp-in", [5.0, 5.1, 5.2], [0, 2])
    assert flow.lost == (Loss(sequence=1, sent_at_s=5.1),)


def test_a_packet_that_arrives_three_times_is_two_duplicates_and_no_loss() -> None:
    flow = account("icmp", [0.0, 0.1], [0, 1, 1, 1])
    assert (flow.duplicates, flow.lost) == (2, ())


def test_losses_are_told_by_the_time_of_sending_with_an_open_end() -> None:
    flow = account("icmp", [1.0, 2.0, 3.0], [])
    assert [loss.sent_at_s for loss in flow.lost_between(1.0, 3.0)] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("lost", "gap_ms"),
    [((), 0), ((7,), 2), ((1, 2, 3), 6), ((1, 3, 4, 9), 4), ((4, 3), 4)],
)
def test_the_longest_gap_is_the_longest_run_of_losses(lost: tuple[int, ...], gap_ms: int) -> None:
    assert longest_gap_ms(losses(*lost), 500) == gap_ms


def test_the_packet_that_was_delayed_least_tells_the_offset_of_the_clocks() -> None:
    clock = ClockMap([10.0, 10.1, 10.2], [110.003, 110.1005, 110.25])
    assert clock.host_s(10.15) == pytest.approx(110.1505)


def test_far_packets_do_not_count_while_near_ones_exist() -> None:
    clock = ClockMap([10.0, 100.0], [110.0, 201.0])
    assert clock.host_s(10.1) == pytest.approx(110.1)
    assert clock.host_s(99.9) == pytest.approx(200.9)


def test_beyond_all_packets_the_nearest_one_counts() -> None:
    clock = ClockMap([10.0, 100.0], [110.0, 201.0])
    assert clock.host_s(0.0) == pytest.approx(100.0)
    assert clock.host_s(300.0) == pytest.approx(401.0)


def test_a_pause_of_the_guest_shifts_what_it_sent_afterwards() -> None:
    # Sent every 10 ms; the clock stands for 2 s between the packets sent at 0.05 and 0.06.
    sent = [number / 100 for number in range(12)]
    arrived = [at + 100 + (2 if at > 0.055 else 0) for at in sent]
    clock = ClockMap(sent, arrived, pauses=[Pause(begin_s=100.055, end_s=102.055)])
    assert clock.host_s(0.052) == pytest.approx(100.052)
    assert clock.host_s(0.058) == pytest.approx(102.058)


def test_a_guest_that_is_never_heard_after_its_pause_is_mapped_by_what_was_before() -> None:
    clock = ClockMap([1.0], [101.0], pauses=[Pause(begin_s=101.5, end_s=102.5)])
    assert clock.host_s(1.2) == pytest.approx(101.2)


def test_clocks_cannot_be_compared_without_a_packet() -> None:
    with pytest.raises(ValueError, match="no packet"):
        ClockMap([], [])
