"""The picture of the race: every round a dot, a panel for each scenario."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab.bench.figures import Entry, Round, Summary
from lab.bench.methods import METHODS, ON_AGENT, Scenario

OURS, PEERS = "#1f5a96", "#8a8f98"
MEDIAN = "#c0392b"
TITLES = {
    Scenario.UNPLUG: "VF unplugged: longest gap",
    Scenario.REPLUG: "VF plugged again: longest gap",
    Scenario.APPEAR: "netdev appears → active port",
    Scenario.ADOPT: "a configured NIC becomes a pair: longest gap",
    Scenario.KILLED: "agent killed, restarted, upgraded: longest gap",
    Scenario.MIGRATE: "live migration: longest gap",
}
Row = tuple[str, str, Sequence[float], str]


def draw(entries: Sequence[Entry], target: Path) -> None:
    """Write ``target.svg`` and ``target.png``."""
    panels = [(title, _rows(entries, scenario)) for scenario, title in TITLES.items()]
    panels = [(title, rows) for title, rows in panels if rows]
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    heights = [
        max(len(rows) for _, rows in panels[line * columns : (line + 1) * columns]) + 1.6
        for line in range(lines)
    ]
    with mpl.rc_context({"font.size": 9, "font.family": "sans-serif", "svg.hashsalt": "race"}):
        figure = Figure(figsize=(6.2 * columns, 0.34 * sum(heights) + 0.8), layout="constrained")
        rounds = max(len(entry.rounds) for entry in entries)
        figure.suptitle(
            f"What is lost and how long it takes, {rounds} rounds each,"
            f" {entries[0].rate_hz:.0f} packets/s a flow: ICMP echo, UDP in, UDP out",
            x=0.012, ha="left", fontsize=11, weight="bold",
        )  # fmt: skip
        grid = figure.add_gridspec(lines, columns, height_ratios=heights)
        for number, (title, rows) in enumerate(panels):
            axes = figure.add_subplot(grid[number // columns, number % columns])
            _draw_panel(axes, title, rows)
        figure.savefig(target.with_suffix(".svg"))
        figure.savefig(target.with_suffix(".png"), dpi=130)


def _rows(entries: Sequence[Entry], scenario: Scenario) -> list[Row]:
    """Return label, colour, values in ms and a remark for each line of a panel."""
    together = ON_AGENT if scenario in ON_AGENT else (scenario,)
    value: Callable[[Round], float] = (
        (lambda found: found.appear_ms or 0.0)
        if scenario is Scenario.APPEAR
        else (lambda found: found.gap_ms)
    )
    rows: list[Row] = []
    for entry in entries:
        if entry.scenario in together:
            label = entry.scenario if scenario in ON_AGENT else entry.method
            colour = OURS if entry.method in _OUR_NAMES else PEERS
            values = [value(found) for found in entry.rounds]
            rows.append((str(label), colour, values, _remark(entry)))
    return rows


_OUR_NAMES = {method.name for method in METHODS if method.with_agent}


def _remark(entry: Entry) -> str:
    if entry.scenario is Scenario.APPEAR:
        return f"{Summary.of(found.appear_ms for found in entry.rounds)} ms"
    lost = Summary.of(found.lost for found in entry.rounds)
    remark = f"lost {lost}"
    if entry.scenario is Scenario.MIGRATE:
        remark += f"; stopped {Summary.of(found.downtime_ms for found in entry.rounds)} ms"
    return remark


def _draw_panel(axes: Axes, title: str, rows: Sequence[Row]) -> None:
    for place, (_, colour, values, remark) in enumerate(reversed(rows)):
        axes.plot(values, [place] * len(values), "o", color=colour, alpha=0.55, ms=6, mew=0)
        median = Summary.of(values)
        if median is not None:
            axes.plot([median.median], [place], "|", color=MEDIAN, ms=14, mew=2)
        axes.text(
            1.01, place, remark, transform=axes.get_yaxis_transform(), va="center", color="#333"
        )
    axes.set_yticks(range(len(rows)), [label for label, *_ in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    most = max((max(values) for _, _, values, _ in rows if values), default=0.0)
    axes.set_xlim(-0.03 * max(most, 10.0), 1.08 * max(most, 10.0))
    axes.set_xlabel("ms")
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(axis="x", color="#e4e6ea", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
