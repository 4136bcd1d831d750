"""The verdict on a run of the demonstration."""

from __future__ import annotations

import pytest

from lab.demo.run import summarize
from lab.migration.host_helper import EffectSpan, Report
from lab.probe.accounting import Flow, Loss, Pause
from lab.probe.probe import ActivePort, Result, Tcp

DOWNTIME_S, AFTER_S = 105.05, 110.0
REPORT = Report(
    exit_code=0,
    result="done",
    message=None,
    running_on="destination",
    accelerated=True,
    phases=(
        EffectSpan(name="switch", begin_s=102.0, end_s=103.0),
        EffectSpan(name="detach", begin_s=103.0, end_s=103.5),
        EffectSpan(name="attach", begin_s=106.0, end_s=106.1),
    ),
    downtime=Pause(begin_s=105.0, end_s=105.1),
    total_ms=1600,
    downtime_ms=100,
)


@pytest.mark.parametrize(
    ("flow", "at_s", "refused", "problems"),
    [
        ("icmp", DOWNTIME_S, 0, []),
        ("icmp", AFTER_S, 0, ["1 packets lost in phase after"]),
        ("icmp", AFTER_S, 1, []),
        ("udp-in", AFTER_S, 1, ["1 packets lost in phase after"]),
    ],
    ids=["downtime", "after", "refused-by-the-guest", "other-flow"],
)
def test_a_run_passes_if_only_the_downtime_lost_packets(
    flow: str, at_s: float, refused: int, problems: list[str]
) -> None:
    loss = Loss(sequence=1, sent_at_s=at_s)
    flows = [
        Flow(name=name, sent=10, duplicates=0, lost=(loss,) if name == flow else ())
        for name in ("icmp", "udp-in")
    ]
    result = Result(
        rate_hz=100,
        begin_s=100.0,
        end_s=120.0,
        flows=tuple(flows),
        tcp=Tcp(bytes_sent=1, bytes_echoed=1, longest_stall_ms=0, longest_stall_at_s=0),
        active_ports=(
            ActivePort(at_s=100.0, name="enp2s0", kind="vf"),
            ActivePort(at_s=102.5, name="enp1s0", kind="standby"),
            ActivePort(at_s=106.5, name="enp2s0", kind="vf"),
        ),
        unsent_replies=refused,
    )
    assert list(summarize(result, REPORT).problems()) == problems
