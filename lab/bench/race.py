"""The race itself; see docs/bench.md.

::

    build/bench/report.json             a list: method, scenario, rate, the figures of each round
    build/bench/race.svg  .png          the same as a picture
    build/bench/table.txt  table.md     what is printed at the end
    build/bench/setups.txt              how each guest was set up
    build/bench/logs/                   consoles, journals, QEMU, the host helper
"""

from __future__ import annotations

import functools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from guestagent.errors import DeadlineError, GuestAgentError
from lab.base.paths import BUILD
from lab.bench import plot, report
from lab.bench.choice import RaceChoice, parse
from lab.bench.contestant import image_of, prepare
from lab.bench.figures import Round, entries
from lab.bench.heats import Figures, Heats
from lab.bench.methods import Method, Scenario
from lab.machine.machine import Frozen
from lab.network.wires import Network

DIRECTORY = BUILD / "bench"
# Other benches keep their reports beside these.
FILES = ("report.json", "race.svg", "race.png", "table.txt", "table.md", "setups.txt")


def main(arguments: Sequence[str]) -> int:
    """Run the race; return 0 if all rounds were completed."""
    choice = parse(arguments)
    _remove_last()
    setups = "\n\n\n".join(method.describe() for method, _ in choice.starters())
    (DIRECTORY / "setups.txt").write_text(setups + "\n")
    race = _Race(choice)
    race.run()
    found = entries(race.rounds, choice.rate_hz)
    (DIRECTORY / "report.json").write_text(report.to_json(found) + "\n")
    (DIRECTORY / "table.txt").write_text(report.table(found) + "\n")
    (DIRECTORY / "table.md").write_text(report.markdown(found) + "\n")
    if found:
        plot.draw(found, DIRECTORY / "race")
    print(f"\n{report.table(found)}\n")
    for line in choice.left_out():
        print(f"left out: {line}")
    print(f"set-ups, report, plots and logs are in {DIRECTORY}")
    what = f"{choice.rounds} rounds, {len(found)} results at {choice.rate_hz:.0f}/s a flow"
    took = f"{time.monotonic() - race.begin_s:.0f} s"
    if race.failures:
        print(f"bench: done with {race.failures} failures: {what}, {took}")
        return 1
    print(f"bench: done: {what}, {took}")
    return 0


def _remove_last() -> None:
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (DIRECTORY / name).unlink(missing_ok=True)
    shutil.rmtree(DIRECTORY / "logs", ignore_errors=True)


@dataclass(slots=True)
class _Race:
    choice: RaceChoice
    rounds: list[tuple[str, Scenario, Round]] = field(default_factory=list)
    failures: int = 0
    begin_s: float = field(default_factory=time.monotonic)

    def run(self) -> None:
        """Boot a guest for each method, then round after round let each run once."""
        logs = DIRECTORY / "logs"
        with (
            tempfile.TemporaryDirectory(dir=DIRECTORY, prefix="frozen-") as directory,
            Network() as network,
        ):
            heats = [
                (
                    method.name,
                    wanted,
                    Heats(
                        method,
                        frozen,
                        network=network,
                        logs=logs / method.name,
                        rate_hz=self.choice.rate_hz,
                    ),
                )
                for method, wanted, frozen in self._frozen(network, Path(directory), logs)
            ]
            for number in range(1, self.choice.rounds + 1):
                for name, wanted, heat in heats:
                    title = f"round {number} {name}"
                    self._heat(name, functools.partial(heat.run, wanted, number), title)

    def _frozen(
        self, network: Network, directory: Path, logs: Path
    ) -> Iterator[tuple[Method, tuple[Scenario, ...], Frozen]]:
        known: dict[tuple[str, ...], Frozen] = {}
        for method, wanted in self.choice.starters():
            if method.guest not in known:
                image_of(method)
                self._say(f"booting the guest of {method.name}")
                known[method.guest] = prepare(
                    method,
                    network=network,
                    directory=directory / method.name,
                    logs=logs / method.name,
                )
            yield method, wanted, known[method.guest]

    def _heat(self, name: str, run: Callable[[], Figures], title: str) -> None:
        """Run one heat; once more where the guest stands still.

        An emulated guest that was thawed sometimes misses a timer and answers to nothing (its
        console tells of RCU stalls): that is the lab's doing. A VF that is not used in time is an
        error of another kind, and a failure.
        """
        try:
            try:
                found = list(run())
            except DeadlineError as error:
                self._say(f"{title} again: {error}")
                found = list(run())
        except (GuestAgentError, OSError) as error:
            self.failures += 1
            self._say(f"{title} FAILED: {error}")
            return
        for scenario, figures in found:
            self.rounds.append((name, scenario, figures))
            self._say(f"{title} {scenario}: {_in_short(figures)}")

    def _say(self, text: str) -> None:
        print(f"bench: {time.monotonic() - self.begin_s:6.1f} s  {text}", flush=True)


def _in_short(found: Round) -> str:
    parts = []
    if found.flows:
        lost = ", ".join(f"{flow.name} {flow.lost}" for flow in found.flows if flow.lost)
        parts.append(f"{found.lost} of {found.sent} lost" + (f" ({lost})" if lost else ""))
    if found.lost:
        parts.append(f"gap {found.gap_ms:.0f} ms")
    if found.duplicates:
        parts.append(f"{found.duplicates} twice")
    if found.active_ms is not None:
        parts.append(f"active after {found.active_ms:.0f} ms")
    if found.appear_ms is not None:
        parts.append(f"active {found.appear_ms:.0f} ms after its netdev appeared")
    if found.downtime_ms is not None:
        parts.append(f"stopped for {found.downtime_ms:.0f} ms")
    if found.lost_outside_downtime:
        parts.append(f"{found.lost_outside_downtime} lost outside that time")
    if found.lost_before:
        parts.append(f"{found.lost_before} lost before anything happened")
    return ", ".join(parts) or "no figures"
