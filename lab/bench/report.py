"""Results of the benchmark, as JSON and as a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

from lab.bench.figures import Entry, Round, Summary

_TIMES: Sequence[tuple[str, Callable[[Round], float | None]]] = (
    ("plug → active", lambda figures: figures.active_ms),
    ("netdev → active", lambda figures: figures.appear_ms),
    ("downtime", lambda figures: figures.downtime_ms),
)
HEADER = ("scenario", "method", "rounds", "sent", "lost", "gap ms", "twice", "other, ms")


def to_json(entries: Sequence[Entry]) -> str:
    """Return the report: a list with one object for each method and scenario."""
    return json.dumps(
        [
            {
                "method": entry.method,
                "scenario": entry.scenario,
                "rate_hz": entry.rate_hz,
                "rounds": [_round(figures) for figures in entry.rounds],
            }
            for entry in entries
        ],
        indent=1,
    )


def _round(figures: Round) -> dict[str, object]:
    values = {
        "sent": figures.sent,
        "lost": figures.lost,
        "gap_ms": round(figures.gap_ms, 1),
        "duplicates": figures.duplicates,
        "active_ms": _rounded(figures.active_ms),
        "appear_ms": _rounded(figures.appear_ms),
        "downtime_ms": _rounded(figures.downtime_ms),
        "lost_outside_downtime": figures.lost_outside_downtime,
        "lost_before": figures.lost_before,
        "flows": [asdict(flow) for flow in figures.flows],
    }
    return {name: value for name, value in values.items() if value is not None}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def table(entries: Sequence[Entry]) -> str:
    """Return the table: median and, in brackets, the least and the most of all rounds."""
    rows = [HEADER, *_rows(entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = []
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def markdown(entries: Sequence[Entry]) -> str:
    """Return the same table for a document."""
    rows = [HEADER, ["---"] * len(HEADER), *_rows(entries)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _rows(entries: Sequence[Entry]) -> Iterator[Sequence[str]]:
    previous = ""
    for entry in sorted(entries, key=lambda entry: entry.scenario.rank):
        has_flows = any(figures.flows for figures in entry.rounds)
        yield (
            "" if entry.scenario == previous else str(entry.scenario),
            entry.method,
            str(len(entry.rounds)),
            str(sum(figures.sent for figures in entry.rounds)) if has_flows else "",
            _cell(entry, lambda figures: figures.lost) if has_flows else "",
            _cell(entry, lambda figures: figures.gap_ms) if has_flows else "",
            str(sum(figures.duplicates for figures in entry.rounds)) if has_flows else "",
            "; ".join(_times(entry)),
        )
        previous = str(entry.scenario)


def _times(entry: Entry) -> Iterator[str]:
    for name, value in _TIMES:
        if summary := Summary.of(value(figures) for figures in entry.rounds):
            yield f"{name} {summary}"
    outside = [figures.lost_outside_downtime for figures in entry.rounds]
    if summary := Summary.of(outside):
        yield f"lost outside it {summary}"


def _cell(entry: Entry, value: Callable[[Round], float]) -> str:
    return str(Summary.of(value(figures) for figures in entry.rounds) or "")
