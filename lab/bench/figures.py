"""From what the probe saw to the figures of one round, and from rounds to a summary. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lab.bench.methods import Scenario
from lab.probe.accounting import longest_gap_ms
from lab.probe.probe import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowFigures:
    """Fate of the packets of one flow."""

    name: str
    sent: int
    lost: int
    gap_ms: float
    """The longest time in which every packet was lost."""
    duplicates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One scenario of one method, once."""

    flows: tuple[FlowFigures, ...] = ()
    active_ms: float | None = None
    """From ``device_add`` until the VF is the active port (10 ms exact)."""
    appear_ms: float | None = None
    """From the appearance of the netdev until it is the active port, by the guest's kernel."""
    downtime_ms: float | None = None
    """From the source's STOP to the destination's RESUME."""
    lost_outside_downtime: int | None = None
    lost_before: int | None = None
    """Lost while nothing happened yet: what the machine itself costs."""

    @property
    def sent(self) -> int:
        """Packets sent in all flows."""
        return sum(flow.sent for flow in self.flows)

    @property
    def lost(self) -> int:
        """Packets lost in all flows."""
        return sum(flow.lost for flow in self.flows)

    @property
    def gap_ms(self) -> float:
        """The longest gap of a flow."""
        return max((flow.gap_ms for flow in self.flows), default=0.0)

    @property
    def duplicates(self) -> int:
        """Packets that an application got twice."""
        return sum(flow.duplicates for flow in self.flows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """All rounds of one method in one scenario."""

    method: str
    scenario: Scenario
    rate_hz: float
    rounds: tuple[Round, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The middle and the ends of some values."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Summary | None:
        """Return the summary of the values that are there, None without any."""
        known = [value for value in values if value is not None]
        if not known:
            return None
        return cls(median=statistics.median(known), least=min(known), most=max(known))

    def __str__(self) -> str:
        text = _short(self.median)
        if self.least != self.most:
            text += f" ({_short(self.least)}–{_short(self.most)})"  # noqa: RUF001 - a range
        return text


def _short(value: float) -> str:
    return f"{value:.0f}" if value == round(value) or value >= 100 else f"{value:.1f}"


def cut(result: Result, begin_s: float, end_s: float) -> tuple[FlowFigures, ...]:
    """Return the figures of what was sent in ``[begin_s, end_s)`` of the host's clock."""
    figures = []
    for flow in result.flows:
        lost = flow.lost_between(begin_s, end_s)
        figures.append(
            FlowFigures(
                name=flow.name,
                sent=flow.sent_between(begin_s, end_s),
                lost=len(lost),
                gap_ms=longest_gap_ms(lost, result.rate_hz),
                duplicates=flow.duplicates_between(begin_s, end_s),
            )
        )
    return tuple(figures)


def lost_between(result: Result, begin_s: float, end_s: float) -> int:
    """Return how many packets of all flows were lost."""
    return sum(len(flow.lost_between(begin_s, end_s)) for flow in result.flows)


def active_ms(result: Result, plugged_s: float) -> float | None:
    """Return the time from the plug until a bond used the VF, None where no bond does."""
    used_s = [
        port.at_s for port in result.active_ports if port.kind == "vf" and port.at_s > plugged_s
    ]
    return (used_s[0] - plugged_s) * 1000 if used_s else None


def entries(rounds: Sequence[tuple[str, Scenario, Round]], rate_hz: float) -> tuple[Entry, ...]:
    """Put the rounds of each method and scenario together, in the order of their first."""
    grouped: dict[tuple[str, Scenario], list[Round]] = {}
    for method, scenario, figures in rounds:
        grouped.setdefault((method, scenario), []).append(figures)
    return tuple(
        Entry(method=method, scenario=scenario, rate_hz=rate_hz, rounds=tuple(found))
        for (method, scenario), found in grouped.items()
    )
