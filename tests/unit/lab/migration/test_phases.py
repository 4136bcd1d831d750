"""A migration cut into phases: every loss belongs to one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lab.migration.host_helper import EffectSpan, Report
from lab.migration.phases import phases_of
from lab.probe.accounting import Flow, Loss, Pause
from lab.probe.probe import ActivePort, Result, Tcp


def result(lost_at_s: Sequence[float]) -> Result:
    lost = tuple(Loss(sequence=int(at * 500), sent_at_s=at) for at in lost_at_s)
    return Result(
        rate_hz=500,
        begin_s=100.0,
        end_s=120.0,
        flows=(Flow(name="icmp", sent=10_000, duplicates=0, lost=lost),),
        tcp=Tcp(bytes_sent=1, bytes_echoed=1, longest_stall_ms=1, longest_stall_at_s=101),
        active_ports=(
            ActivePort(at_s=100.1, name="enp2s0", kind="vf"),
            ActivePort(at_s=103.1, name="enp1s0", kind="standby"),
            ActivePort(at_s=107.0, name="enp2s0", kind="vf"),
        ),
    )


def report(*, attach_s: float = 105.2) -> Report:
    return Report(
        exit_code=0,
        result="done",
        message=None,
        running_on="destination",
        accelerated=True,
        phases=(
            EffectSpan(name="prepare", begin_s=102.9, end_s=103.0),
            EffectSpan(name="detach", begin_s=103.0, end_s=103.5),
            EffectSpan(name="migrate", begin_s=103.5, end_s=105.1),
            EffectSpan(name="attach", begin_s=attach_s, end_s=attach_s + 0.01),
        ),
        downtime=Pause(begin_s=105.0, end_s=105.1),
        total_ms=1600,
        downtime_ms=100,
    )


def test_phases_follow_each_other_from_the_begin_of_the_probe_to_its_end() -> None:
    phases = phases_of(result([]), report())
    names = ["before", "unplug", "move", "downtime", "arrive", "plug", "after"]
    assert [phase.name for phase in phases] == names
    assert [phase.end_s for phase in phases[:-1]] == [phase.begin_s for phase in phases[1:]]
    assert (phases[0].begin_s, phases[-1].end_s) == (100.0, 120.0)


def test_a_guest_that_leaves_its_vf_first_does_so_in_a_phase_of_its_own() -> None:
    unplanned = report()
    switch = EffectSpan(name="switch", begin_s=102.95, end_s=103.0)
    planned = replace(unplanned, phases=(unplanned.phases[0], switch, *unplanned.phases[1:]))
    before, left, unplug, *_ = phases_of(result([]), planned)
    assert (before.end_s, left.name, left.end_s) == (102.95, "switch", 103.0)
    assert (unplug.name, unplug.begin_s) == ("unplug", 103.0)


def test_the_vf_is_back_when_the_bond_uses_it() -> None:
    plug = {phase.name: phase for phase in phases_of(result([]), report())}["plug"]
    assert plug.end_s == 107.0


def test_a_vf_that_is_plugged_at_once_leaves_no_loss_counted_twice() -> None:
    phases = phases_of(result([105.05, 105.11]), report(attach_s=105.105))
    assert "arrive" not in {phase.name for phase in phases}
    assert [phase.lost for phase in phases] == [0, 0, 0, 2, 0, 0]


def test_each_loss_is_counted_in_its_phase() -> None:
    phases = phases_of(result([101.0, 103.1, 103.102, 104.0, 119.9]), report())
    assert [phase.lost for phase in phases] == [1, 2, 1, 0, 0, 0, 1]
    assert [phase.longest_gap_ms for phase in phases] == [2, 4, 2, 0, 0, 0, 2]


def test_a_migration_that_never_began_has_no_phases_of_its_own() -> None:
    failed = Report(
        exit_code=1,
        result="failed",
        message="refused",
        running_on="source",
        accelerated=True,
        phases=(EffectSpan(name="prepare", begin_s=102.9, end_s=103.0),),
        downtime=None,
        total_ms=None,
        downtime_ms=None,
    )
    assert [phase.name for phase in phases_of(result([101.0]), failed)] == ["before"]
