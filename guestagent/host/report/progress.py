"""Shows the progress of a command on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import shutil
from typing import TextIO

from guestagent.clock import Clock
from guestagent.host.migration.state import Phase, State
from guestagent.host.model import Progress
from guestagent.host.terminal import size

_LINE_EVERY_S = 5.0
_BAR_CELLS = 12  # bar and figures fit in 80 columns

_TEXT = {
    Phase.PREPARE: "querying both QEMUs",
    Phase.RESERVE: "claiming VFs",
    Phase.WITHDRAW: "resetting the VFs that the guest has left",
    Phase.PROGRAM: "programming a VF for {vf}",
    Phase.REPROGRAM: "programming the VF of {vf} again",
    Phase.TIDY: "releasing VFs that are not used",
    Phase.SWITCH: "asking the guest to use its standby NIC",
    Phase.DETACH: "asking the guest to release {vf}",
    Phase.LAUNCH: "starting the migration",
    Phase.MIGRATE: "moving memory",
    Phase.CANCEL: "cancelling the migration",
    Phase.DECIDE: "querying where the guest is now",
    Phase.RESUME: "letting the guest run",
    Phase.ATTACH: "attaching {vf}",
    Phase.RESTORE: "giving {vf} back",
    Phase.CONFIRM: "waiting until the guest uses its VF",
    Phase.RETURN: "asking the guest to use its VF again",
}


class ProgressView:
    """An ``ProgressListener`` that writes; ``bar`` redraws one line instead of adding lines."""

    def __init__(self, name: str, *, stream: TextIO, clock: Clock, bar: bool) -> None:
        self._name = name
        self._stream = stream
        self._clock = clock
        self._bar = bar
        self._shown = ""
        self._next_line_at_s = 0.0
        self._drawn = False

    def entered(self, state: State) -> None:
        """Write the name of the phase, unless it was written last."""
        self._end_bar()
        text = _TEXT.get(state.phase, "").format(vf=state.todo[0] if state.todo else "")
        if text and text != self._shown:
            self._say(text)
        self._shown = text

    def progressed(self, progress: Progress) -> None:
        """Write the figures of the migration."""
        if self._bar:
            width = shutil.get_terminal_size().columns
            line = f"{_bar(progress)} {figures(progress)}"
            self._write(f"\r{line[: width - 1]}\x1b[K")
            self._drawn = True
        elif self._clock() >= self._next_line_at_s:
            self._say(figures(progress))
            self._next_line_at_s = self._clock() + _LINE_EVERY_S

    def _say(self, text: str) -> None:
        self._write(f"{self._name}: {text}\n")

    def _end_bar(self) -> None:
        if self._drawn:
            self._write("\n")
            self._drawn = False

    def _write(self, text: str) -> None:
        """Write; a closed stream must not interrupt an operation."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
            self._stream.flush()


def figures(progress: Progress) -> str:
    """Return percent, bytes, rate and time left as one line."""
    share = 1.0 - progress.remaining_bytes / progress.total_bytes if progress.total_bytes else 0.0
    left = "--" if progress.time_left_s is None else f"{progress.time_left_s:.0f} s"
    return (
        f"{share:4.0%}  {size(progress.transferred_bytes)} sent,"
        f" {size(progress.remaining_bytes)} of {size(progress.total_bytes)} to go,"
        f" {size(progress.rate_bytes_per_s)}/s, {left} left"
    )


def _bar(progress: Progress) -> str:
    share = 1.0 - progress.remaining_bytes / progress.total_bytes if progress.total_bytes else 0.0
    full = round(min(1.0, max(0.0, share)) * _BAR_CELLS)
    return f"[{'#' * full}{'-' * (_BAR_CELLS - full)}]"
