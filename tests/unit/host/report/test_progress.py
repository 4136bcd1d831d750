"""A bar where somebody watches, plain lines where somebody reads later."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from guestagent.host.migration.state import Goal, Limits, Phase, State
from guestagent.host.model import End, Progress
from guestagent.host.report.progress import ProgressView, figures
from guestagent.host.terminal import coloured, size

HALF = Progress(
    transferred_bytes=3 * 2**20,
    remaining_bytes=2**30,
    total_bytes=2**31,
    rate_bytes_per_s=100 * 2**20,
    time_left_s=10.24,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def state(phase: Phase) -> State:
    return State(
        goal=Goal.MIGRATE,
        phase=phase,
        home=End.SOURCE,
        home_vfs=("vf0",),
        target_vfs=("vf0",),
        limits=Limits(),
        todo=("vf0",),
    )


def seconds() -> Iterator[float]:
    yield from range(100)


def test_the_figures_have_bytes_rate_and_time_left() -> None:
    assert figures(HALF) == " 50%  3 MiB sent, 1.0 GiB of 2.0 GiB to go, 100 MiB/s, 10 s left"


def test_the_end_of_a_migration_that_does_not_converge_is_not_told() -> None:
    stuck = Progress(
        transferred_bytes=0,
        remaining_bytes=0,
        total_bytes=0,
        rate_bytes_per_s=0.0,
        time_left_s=None,
    )
    assert figures(stuck).endswith("0 B/s, -- left")


def test_plain_lines_are_few_and_without_escapes() -> None:
    stream = io.StringIO()
    clock = seconds()
    view = ProgressView("web1", stream=stream, clock=lambda: next(clock), bar=False)
    view.entered(state(Phase.MIGRATE))
    for _ in range(20):
        view.progressed(HALF)
    view.entered(state(Phase.ATTACH))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "web1: moving memory"
    assert lines[-1] == "web1: attaching vf0"
    assert 3 <= len(lines) <= 7
    assert "\x1b" not in stream.getvalue()
    assert "\r" not in stream.getvalue()


def test_a_bar_is_drawn_in_place_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    stream = Terminal()
    view = ProgressView("web1", stream=stream, clock=lambda: 0.0, bar=True)
    view.progressed(HALF)
    view.progressed(HALF)
    view.entered(state(Phase.DECIDE))
    drawn, rest = stream.getvalue().split("\n", 1)
    assert drawn.count("\r[######------]  50%") == 2
    assert all(len(line.removesuffix("\x1b[K")) < 60 for line in drawn.split("\r"))
    assert rest == "web1: querying where the guest is now\n"


def test_a_repeated_phase_is_shown_once() -> None:
    stream = io.StringIO()
    view = ProgressView("web1", stream=stream, clock=lambda: 0.0, bar=False)
    for _ in range(3):
        view.entered(state(Phase.DETACH))
    assert stream.getvalue() == "web1: asking the guest to release vf0\n"


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert coloured("x", 31, stream=Terminal()) == "\x1b[31mx\x1b[0m"
    assert coloured("x", 31, stream=io.StringIO()) == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert coloured("x", 31, stream=Terminal()) == "x"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (2**20, "1 MiB"), (3 * 2**30, "3.0 GiB")]
)
def test_sizes_are_readable(count: int, text: str) -> None:
    assert size(count) == text


class Gone(io.StringIO):
    def write(self, _text: str) -> int:
        raise BrokenPipeError


def test_a_reader_that_has_gone_is_not_missed() -> None:
    view = ProgressView("web1", stream=Gone(), clock=lambda: 0.0, bar=True)
    view.entered(state(Phase.DETACH))
    view.progressed(HALF)
    view.entered(state(Phase.ATTACH))
