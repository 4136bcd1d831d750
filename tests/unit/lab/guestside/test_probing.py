"""The pace of the probe's senders, and what the guest says of itself."""

from __future__ import annotations

from array import array
from pathlib import Path

from lab.guestside.probing import Pacer, decode, encode, unsent_replies

MS = 1_000_000


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_ns = 1_000 * MS

    def __call__(self) -> int:
        return self.now_ns


def test_the_first_packet_is_due_at_once_and_the_next_after_a_period() -> None:
    clock = Clock()
    pacer = Pacer(500, clock)
    assert [pacer.due(), pacer.due()] == [1, 0]
    assert pacer.wait_s() == 0.002
    clock.now_ns += 2 * MS
    assert pacer.due() == 1


def test_a_sender_that_was_held_up_for_a_little_sends_what_became_due() -> None:
    clock = Clock()
    pacer = Pacer(500, clock)
    pacer.due()
    clock.now_ns += 40 * MS
    assert pacer.due() == 20


def test_slots_missed_while_the_guest_was_stopped_count_as_not_sent() -> None:
    clock = Clock()
    pacer = Pacer(500, clock)
    pacer.due()
    clock.now_ns += 3_000 * MS
    assert pacer.due() == 1
    clock.now_ns += 2 * MS
    assert pacer.due() == 1


def test_numbers_survive_the_way_through_json() -> None:
    numbers = array("q", [0, -1, 2**62])
    assert decode(encode(numbers)) == numbers


def test_replies_that_were_not_sent_are_counted_for_both_families(tmp_path: Path) -> None:
    (tmp_path / "snmp").write_text(
        "Ip: Forwarding InReceives\nIp: 2 9\n"
        "Icmp: InMsgs OutMsgs OutErrors OutRateLimitGlobal\nIcmp: 31250 31183 67 0\n"
        "IcmpMsg: InType8 OutType0\nIcmpMsg: 31250 31183\n"
    )
    (tmp_path / "snmp6").write_text("Ip6InReceives      5\nIcmp6OutErrors       3\n")
    assert unsent_replies(tmp_path) == 70
