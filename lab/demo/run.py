"""One run of the demonstration: its measurements, the verdict, and the report."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

from lab.migration import host_helper
from lab.migration.phases import ROUND_TRIP_S, LossPhase, phases_of
from lab.probe.probe import Result

EXPECTED_PORTS = {"before": "vf", "during": "standby", "after": "vf"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoRun:
    """Measurements of one run of the demonstration."""

    probe: Result
    helper: host_helper.Report
    phases: tuple[LossPhase, ...]
    active_port: dict[str, str]

    def problems(self) -> Iterator[str]:
        """Yield the reasons why the run is no pass."""
        if self.active_port != EXPECTED_PORTS:
            yield f"active port {self.active_port}"
        if not self.probe.tcp.survived:
            yield "the TCP connection broke"
        # A guest that has left its VF before the unplug loses nothing at it.
        planned = any(phase.name == "switch" for phase in self.phases)
        lossy = {"downtime"} if planned else {"downtime", "unplug"}
        outside = [phase for phase in self.phases if phase.name not in lossy]
        echoes = {phase.name: self._lost_echoes(phase) for phase in outside}
        # A guest that had no processor for longer refuses echo replies, and counts each
        # (lab/guestside/probing.py): no network lost them.
        refused = sum(echoes.values()) <= self.probe.unsent_replies
        for phase in outside:
            lost = phase.lost - (echoes[phase.name] if refused else 0)
            if lost:
                yield f"{lost} packets lost in phase {phase.name}"

    def _lost_echoes(self, phase: LossPhase) -> int:
        flows = [flow for flow in self.probe.flows if flow.name == "icmp"]
        return sum(len(flow.lost_between(phase.begin_s, phase.end_s)) for flow in flows)

    def to_json(self, *, passed: bool) -> str:
        """Return the report; times count from the begin of the probe."""
        begin_s = self.probe.begin_s
        return json.dumps(
            {
                "result": "pass" if passed else "fail",
                "rate_hz": self.probe.rate_hz,
                "sent": self.probe.sent,
                "lost": self.probe.lost,
                "phases": [
                    {
                        "name": phase.name,
                        "start_s": round(phase.begin_s - begin_s, 4),
                        "end_s": round(phase.end_s - begin_s, 4),
                        "lost": phase.lost,
                        "longest_gap_ms": round(phase.longest_gap_ms, 1),
                    }
                    for phase in self.phases
                ],
                "active_port": self.active_port,
                "migration": {
                    "total_ms": self.helper.total_ms,
                    "downtime_ms": self.helper.downtime_ms,
                },
                "tcp": {
                    "survived": self.probe.tcp.survived,
                    "longest_stall_ms": round(self.probe.tcp.longest_stall_ms, 1),
                },
            },
            indent=2,
        )


def summarize(
    probe: Result, helper: host_helper.Report, *, margin_s: float = ROUND_TRIP_S
) -> DemoRun:
    """Combine what probe and host helper measured; ``margin_s`` is around the downtime.

    :raise PeerError: the helper ended without a migration.
    """
    phases = phases_of(probe, helper, margin_s=margin_s)
    return DemoRun(
        probe=probe,
        helper=helper,
        phases=phases,
        active_port={
            "before": probe.active_kind_at(phases[0].end_s),
            "during": probe.active_kind_at(helper.completed().begin_s),
            "after": probe.active_kind_at(probe.end_s),
        },
    )


_begin_s = time.monotonic()


def say(text: str) -> None:
    """Tell how far the demonstration is."""
    print(f"demo: {time.monotonic() - _begin_s:6.1f} s  {text}", flush=True)
