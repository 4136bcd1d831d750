"""Holds on the standby: they end by themselves and outlive the agent."""

from __future__ import annotations

from pathlib import Path

import pytest

from guestagent.guest.state.holds import Holds

MAC = "52:54:00:00:00:01"


class Time:
    """A clock in the test's hand."""

    now_s = 500.0

    def __call__(self) -> float:
        return self.now_s


def test_a_hold_expires(tmp_path: Path) -> None:
    clock = Time()
    holds = Holds(tmp_path, clock)
    holds.hold(MAC, 120)
    clock.now_s += 119
    assert holds.current() == {MAC}
    assert holds.next_s == 1
    clock.now_s += 1
    assert holds.current() == frozenset()
    assert holds.next_s is None


def test_a_hold_outlives_a_restart_of_the_agent_but_not_its_time(tmp_path: Path) -> None:
    clock = Time()
    Holds(tmp_path, clock).hold(MAC, 120)
    clock.now_s += 60
    assert Holds(tmp_path, clock).remaining_s(MAC) == 60
    clock.now_s += 61
    assert Holds(tmp_path, clock).current() == frozenset()


def test_the_end_of_a_hold_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Time()
    holds = Holds(tmp_path, clock)
    holds.hold(MAC, 10)
    clock.now_s += 10
    with caplog.at_level("INFO"):
        for _ in range(2):
            assert holds.current() == frozenset()
            holds = Holds(tmp_path, clock)
    assert len(caplog.records) == 1


def test_a_second_request_renews_a_hold_and_an_end_is_final(tmp_path: Path) -> None:
    clock = Time()
    holds = Holds(tmp_path, clock)
    holds.hold(MAC, 10)
    clock.now_s += 5
    holds.hold(MAC, 10)
    assert holds.remaining_s(MAC) == 10
    holds.end(MAC)
    holds.end(MAC)
    assert holds.remaining_s(MAC) is None
    assert Holds(tmp_path, clock).current() == frozenset()


@pytest.mark.parametrize("content", [b'{"leases": [{"mac": 5}]}', b"\xff\xfe\x00"])
def test_a_damaged_file_means_no_hold(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "leases.json").write_bytes(content)
    assert Holds(tmp_path, Time()).current() == frozenset()
