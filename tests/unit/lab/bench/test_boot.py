"""Time of a boot, from the output of systemd."""

from __future__ import annotations

from lab.bench.boot import Boot, parse


def test_a_boot_is_counted_from_the_start_of_init() -> None:
    shown = "2000000\n5500000\n9000000\n3000000\n3250000\n0\n"
    assert parse(shown) == Boot(network_ms=3500, finished_ms=7000, early_ms=250)


def test_an_early_unit_that_finds_nothing_to_do_has_taken_its_time_too() -> None:
    assert parse("2000000\n5500000\n9000000\n3000000\n0\n3020000\n").early_ms == 20


def test_a_boot_without_the_early_unit_has_no_figure_of_it() -> None:
    assert parse("2000000\n5500000\n9000000\n\n\n\n").early_ms is None
    assert parse("2000000\n5500000\n9000000\n0\n0\n0\n").early_ms is None
