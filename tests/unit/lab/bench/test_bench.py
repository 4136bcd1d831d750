"""The race: who takes part, what a round comes to, what is reported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from guestagent.errors import ConfigurationError
from lab.base.paths import ROOT
from lab.bench import linkevents, report
from lab.bench.choice import parse
from lab.bench.figures import Entry, FlowFigures, Round, Summary, active_ms, cut, entries
from lab.bench.methods import METHODS, Method, Scenario
from lab.probe.accounting import account
from lab.probe.probe import ActivePort, Result, Tcp

METHOD_NAMES = {
    "agent-planned",
    "agent-surprise",
    "net_failover",
    "networkd",
    "networkmanager",
    "hand-bond",
    "virtio-only",
}
SCENARIO_NAMES = {
    "unplug",
    "replug",
    "appear",
    "adopt",
    "agent-killed",
    "agent-restarted",
    "agent-upgraded",
    "migrate",
}


def result(*ports: ActivePort) -> Result:
    """Ten packets at 100/s from second 1 on; 3, 4 and 7 are lost, 5 arrives twice."""
    sent = [1 + number / 100 for number in range(10)]
    return Result(
        rate_hz=100,
        begin_s=1.0,
        end_s=1.1,
        flows=(account("icmp", sent, [0, 1, 2, 5, 5, 6, 8, 9]),),
        tcp=Tcp(
            bytes_sent=0,
            bytes_echoed=0,
            longest_stall_ms=0.0,
            longest_stall_at_s=1.0,
        ),
        active_ports=ports,
    )


def test_a_reply_that_was_never_sent_is_not_lost_on_the_way() -> None:
    found = result()
    assert (found.lost, found.lost_on_the_way) == (3, 3)
    assert replace(found, unsent_replies=2).lost_on_the_way == 1
    assert replace(found, unsent_replies=4).lost_on_the_way == 0
    (icmp,) = found.flows
    udp = replace(icmp, name="udp-in")
    assert replace(found, flows=(icmp, udp), unsent_replies=3).lost_on_the_way == 3


def round_of(lost: int) -> Round:
    flow = FlowFigures(name="icmp", sent=100, lost=lost, gap_ms=lost * 1.0, duplicates=0)
    return Round(flows=(flow, flow))


def test_the_names_are_those_that_scripts_know() -> None:
    assert {method.name for method in METHODS} == METHOD_NAMES
    assert {str(scenario) for scenario in Scenario} == SCENARIO_NAMES


def test_every_method_and_every_scenario_takes_part_unless_others_are_named() -> None:
    starters = list(parse([]).starters())
    assert {method.name for method, _ in starters} == METHOD_NAMES
    assert {item for _, wanted in starters for item in wanted} == set(Scenario)


def test_a_method_runs_only_what_is_asked_for_and_applies() -> None:
    choice = parse(["--methods", "networkd,virtio-only", "--scenarios", "migrate,unplug"])
    assert [(method.name, wanted) for method, wanted in choice.starters()] == [
        ("networkd", (Scenario.UNPLUG,)),
        ("virtio-only", (Scenario.MIGRATE,)),
    ]
    assert [line.split(" (")[0] for line in choice.left_out()] == [
        "networkd without migrate",
        "virtio-only without unplug",
    ]


def test_rounds_and_rate_are_as_asked_for() -> None:
    choice = parse(["--rounds", "2", "--rate", "300"])
    assert (choice.rounds, choice.rate_hz) == (2, 300.0)


def test_what_applies_to_nobody_is_an_error_that_says_why() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(["--methods", "hand-bond", "--scenarios", "migrate"])
    assert "hand-bond without migrate" in str(caught.value.hint)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--methods", "teaming"],
        ["--scenarios", "unplug,"],
        ["--rounds", "0"],
        ["--rate", "-5"],
        ["--rate", "fast"],
    ],
)
def test_a_wrong_command_line_is_a_usage_error(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(arguments)
    assert caught.value.code == 2


def test_a_round_counts_what_was_sent_in_its_time() -> None:
    (flow,) = cut(result(), 1.025, 1.065)
    assert flow == FlowFigures(name="icmp", sent=4, lost=2, gap_ms=20.0, duplicates=1)


def test_a_duplicate_counts_where_its_packet_was_sent() -> None:
    (before,), (after,) = cut(result(), 1.0, 1.045), cut(result(), 1.055, 2.0)
    assert (before.duplicates, after.duplicates) == (0, 0)


def test_a_round_adds_up_its_flows_and_takes_their_longest_gap() -> None:
    assert (round_of(3).sent, round_of(3).lost, round_of(3).gap_ms) == (200, 6, 3.0)


def test_the_vf_is_active_from_the_first_moment_after_the_plug() -> None:
    seen = result(
        ActivePort(at_s=1.0, name="enp2s0", kind="vf"),
        ActivePort(at_s=1.02, name="enp1s0", kind="standby"),
        ActivePort(at_s=1.05, name="enp2s0", kind="vf"),
    )
    assert active_ms(seen, 1.03) == pytest.approx(20.0)
    assert active_ms(result(), 1.03) is None


def test_a_summary_is_median_least_and_most_of_what_is_there() -> None:
    summary = Summary.of([3.0, None, 1.0, 8.0])
    assert summary == Summary(median=3.0, least=1.0, most=8.0)
    assert str(summary) == "3 (1–8)"  # noqa: RUF001 - a range
    assert str(Summary.of([2.5, 2.5])) == "2.5"
    assert Summary.of([None]) is None


def test_rounds_of_a_method_come_together_whatever_ran_between_them() -> None:
    found = entries(
        [
            ("networkd", Scenario.UNPLUG, round_of(1)),
            ("hand-bond", Scenario.UNPLUG, round_of(2)),
            ("networkd", Scenario.UNPLUG, round_of(3)),
        ],
        1000,
    )
    assert [(entry.method, [item.lost for item in entry.rounds]) for entry in found] == [
        ("networkd", [2, 6]),
        ("hand-bond", [4]),
    ]


def test_the_report_is_a_list_with_the_names_that_scripts_know() -> None:
    appeared = Entry(
        method="networkd", scenario=Scenario.APPEAR, rate_hz=1000, rounds=(Round(appear_ms=330),)
    )
    unplugged = Entry(
        method="networkd", scenario=Scenario.UNPLUG, rate_hz=1000, rounds=(round_of(5),)
    )
    first, second = json.loads(report.to_json([appeared, unplugged]))
    assert set(first) == {"method", "scenario", "rate_hz", "rounds"}
    assert first["rounds"][0]["appear_ms"] == 330
    assert "downtime_ms" not in first["rounds"][0]
    (figures,) = second["rounds"]
    assert (figures["sent"], figures["lost"], figures["gap_ms"]) == (200, 10, 5.0)
    assert [flow["lost"] for flow in figures["flows"]] == [5, 5]


def test_the_table_has_a_line_for_each_result_in_the_order_of_scenarios() -> None:
    found = entries(
        [
            ("virtio-only", Scenario.MIGRATE, Round(flows=round_of(4).flows, downtime_ms=45.2)),
            ("hand-bond", Scenario.UNPLUG, round_of(40)),
        ],
        1000,
    )
    header, _, unplug, migrate = report.table(found).splitlines()
    assert header.split()[:3] == ["scenario", "method", "rounds"]
    assert unplug.split()[:5] == ["unplug", "hand-bond", "1", "200", "80"]
    assert migrate.endswith("downtime 45.2")
    assert (
        report.markdown(found).splitlines()[2].startswith("| unplug | hand-bond | 1 | 200 | 80 |")
    )


MONITORED = (
    "[2026-01-01T00:00:01.000000] 2: enp1s0: <BROADCAST,UP,LOWER_UP> mtu 1500 master bond0 \\ x\n"
    "[2026-01-01T00:00:02.000000] 7: eth0: <BROADCAST,MULTICAST> mtu 1500 qdisc noop \\ link\n"
    "[2026-01-01T00:00:02.050000] 7: enp2s0: <BROADCAST,UP,LOWER_UP> mtu 1500 master bond0 \\ l\n"
    "[2026-01-01T00:00:02.100000] 3: bond0: <UP,LOWER_UP> mtu 1500 \\ bond mode active-backup "
    "active_slave enp1s0 miimon 100\n"
    "[2026-01-01T00:00:02.330000] 3: bond0: <UP,LOWER_UP> mtu 1500 \\ bond mode active-backup "
    "active_slave enp2s0 miimon 100\n"
)


def test_a_nic_has_appeared_with_its_first_name_and_is_used_when_the_bond_says_so() -> None:
    assert linkevents.appear_ms(MONITORED, ifindex=7) == pytest.approx(330)


def test_a_nic_is_not_used_by_a_bond_that_has_another_of_its_first_name() -> None:
    other = (
        "[2026-01-01T00:00:01.500000] 4: bond1: <UP,LOWER_UP> mtu 15 \\ bond active_slave eth0 m\n"
    )
    later = other.replace("01.500", "02.200")
    assert linkevents.appear_ms(other + MONITORED, ifindex=7) == pytest.approx(330)
    head, last = MONITORED[: MONITORED.rindex("[")], MONITORED[MONITORED.rindex("[") :]
    assert linkevents.appear_ms(head + later + last, ifindex=7) == pytest.approx(330)


def test_without_a_bond_a_nic_is_used_as_a_port_with_a_carrier() -> None:
    failover = "".join(
        line for line in MONITORED.splitlines(keepends=True) if "bond0:" not in line
    )
    assert linkevents.appear_ms(failover, ifindex=7) == pytest.approx(50)


def test_a_nic_that_is_never_used_has_no_time() -> None:
    assert linkevents.appear_ms(MONITORED[: MONITORED.index("02.330")], ifindex=7) is None
    assert linkevents.appear_ms(MONITORED, ifindex=9) is None


def test_a_link_that_went_is_no_appearance() -> None:
    gone = "[2026-01-01T00:00:01.000000] Deleted 7: enp2s0: <BROADCAST> mtu 1500 \\ link\n"
    assert linkevents.appear_ms(gone + MONITORED, ifindex=7) == pytest.approx(330)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_the_document_shows_how_each_guest_is_set_up(method: Method) -> None:
    document = Path(ROOT, "docs/bench.md").read_text()
    missing = [
        line for line in method.describe().splitlines() if line.strip() and line not in document
    ]
    assert missing == []
