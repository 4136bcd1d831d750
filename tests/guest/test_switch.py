"""The planned switch: nothing is lost, holds end by themselves, any host can hang up."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from lab.base.waiting import wait_until
from lab.machine.guests import Guests
from lab.machine.machine import Machine
from lab.network.wires import Network
from lab.probe.probe import Probe, Result
from lab.probe.usage import agent_usage
from tests.guest.seen import (
    CONVERGED_S,
    assert_nothing_lost,
    configure,
    look,
    wait_at_rest,
    wait_converged,
    wait_on_standby,
    wait_on_vf,
)

CYCLES = 10
RATE_HZ = 1000.0


class Host:
    """The host's end of the channel to the agent."""

    def __init__(self, guest: Machine) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        # Without a timeout yet: QEMU takes the next client only when the last is gone,
        # and a connection attempt with one would not wait for that (connect(2), EAGAIN).
        self._socket.connect(str(guest.directory / "agent.sock"))
        self._socket.settimeout(60)
        self._lines = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def read(self) -> Any:
        """Return the next answer."""
        return json.loads(self._lines.readline())

    def ask(self, request: str, **arguments: object) -> Mapping[str, Any]:
        """Ask and return the result; a refusal fails the test."""
        line = {"v": 1, "id": request, "request": request, "arguments": arguments}
        self.send(json.dumps(line).encode() + b"\n")
        answer = self.read()
        assert answer["ok"], answer
        result: Mapping[str, Any] = answer["result"]
        return result

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._socket.close()


@contextmanager
def connected(guest: Machine) -> Iterator[Host]:
    """Connect to the channel for a while."""
    host = Host(guest)
    try:
        yield host
    finally:
        host.close()


def adopted(guest: Machine) -> None:
    """Bring the guest's pair onto its VF and wait until everything has settled."""
    configure(guest, "Name=en*")
    guest.plug_vf()
    wait_on_vf(guest)
    wait_converged(guest)


def assert_nothing_lost_or_doubled(result: Result) -> None:
    """Every packet of every flow arrived, and none came twice."""
    assert_nothing_lost(result)
    assert {flow.name: flow.duplicates for flow in result.flows} == {
        "icmp": 0,
        "udp-in": 0,
        "udp-out": 0,
    }


def test_ten_planned_cycles_lose_nothing_at_a_thousand_packets_a_second(
    guest: Machine, network: Network
) -> None:
    adopted(guest)
    with connected(guest) as host, Probe(network, rate_hz=RATE_HZ) as probe:
        probe.start(guest)
        for _ in range(CYCLES):
            (pair,) = host.ask("switch", to="standby")["pairs"]
            assert (pair["active"], pair["standby"]["carrier"]) == ("standby", True)
            guest.unplug_vf()
            guest.plug_vf()
            host.ask("switch", to="auto")
            host.ask("wait", active="vf", timeout_s=50)
        result = probe.stop(guest)
    assert_nothing_lost_or_doubled(result)


def test_what_waits_on_the_vf_is_sent_before_the_host_is_told_that_it_may_go(
    guest: Machine, network: Network
) -> None:
    adopted(guest)
    vf = look(guest).vf(guest.setup.pairs[0])
    assert vf is not None
    guest.run(f"tc qdisc replace dev {vf.name} root netem delay 300ms limit 10000")
    with connected(guest) as host, Probe(network) as probe:
        probe.start(guest)
        host.ask("switch", to="standby")
        guest.unplug_vf()
        wait_on_standby(guest)
        result = probe.stop(guest)
    assert_nothing_lost_or_doubled(result)


def test_a_hold_ends_by_itself_without_loss(guest: Machine, network: Network) -> None:
    adopted(guest)
    with Probe(network) as probe:
        probe.start(guest)
        guest.run("guestagent switch standby --hold 3")
        wait_on_vf(guest)
        result = probe.stop(guest)
    assert_nothing_lost_or_doubled(result)
    # Three seconds may be over before anybody has looked from outside.
    assert [port.kind for port in result.active_ports] == ["vf", "standby", "vf"]
    assert guest.run_json("guestagent status --json")["pairs"][0]["held_s"] is None


def test_a_hold_outlives_a_killed_agent_and_asking_again_changes_nothing(guest: Machine) -> None:
    adopted(guest)
    guest.run("guestagent switch standby --hold 300")
    guest.run("systemctl kill --signal=KILL guestagent")
    wait_until(
        "the agent runs again",
        lambda: guest.execute("guestagent switch standby --hold 200").code == 0,
        timeout_s=CONVERGED_S,
    )
    (pair,) = guest.run_json("guestagent status --json")["pairs"]
    assert pair["active"] == "standby"
    assert 150 < pair["held_s"] <= 200
    assert guest.run("guestagent plan").strip() == "nothing to do"
    guest.run("guestagent switch vf")
    wait_on_vf(guest)


def test_a_vf_that_is_plugged_during_a_hold_joins_and_waits(guest: Machine) -> None:
    adopted(guest)
    guest.run("guestagent switch standby --hold 300")
    guest.unplug_vf()
    wait_on_standby(guest)
    guest.plug_vf(bus=guest.setup.spare_ports()[0])
    pair = guest.setup.pairs[0]

    def joined() -> bool:
        seen = look(guest)
        vf, bond = seen.vf(pair), seen.bond(pair)
        return vf is not None and bond is not None and vf.name in bond.ports

    wait_until("the VF has joined", joined, timeout_s=CONVERGED_S)
    wait_converged(guest)
    assert look(guest).bonds[0].active == look(guest).standby(pair).name
    guest.run("guestagent switch auto")
    wait_on_vf(guest)


def test_without_a_carrier_on_the_standby_a_switch_is_refused(guest: Machine) -> None:
    adopted(guest)
    guest.qmp("set_link", name=guest.setup.pairs[0].standby, up=False)
    wait_until(
        "the standby has no carrier",
        lambda: not guest.run_json("guestagent status --json")["pairs"][0]["standby"]["carrier"],
        timeout_s=CONVERGED_S,
    )
    refused = guest.execute("guestagent switch standby")
    assert refused.code == 1
    assert "has no carrier" in refused.stderr
    wait_on_vf(guest)


def test_the_channel_answers_garbage_and_lives_through_hosts_that_hang_up(guest: Machine) -> None:
    adopted(guest)
    with connected(guest) as host:
        host.send(b"\xff\x00 garbage\n" + b"[" * 70_000 + b"\n" + b'{"v": 1, "request"')
        assert not host.read()["ok"]
        assert not host.read()["ok"]
    for _ in range(5):
        with connected(guest) as host:
            host.send(b"\nhalf a line")
    with connected(guest) as host:
        # A refusal of what others left unfinished may come first; the marker ends it.
        host.send(b'\n{"v": 1, "id": "marker", "request": "hello"}\n')
        answer = host.read()
        while answer["id"] != "marker":
            assert not answer["ok"]
            answer = host.read()
        assert answer["result"]["protocol"] == 1
    assert guest.run("systemctl is-active guestagent").strip() == "active"


def test_an_idle_channel_and_a_host_that_left_cost_no_wakeups(guest: Machine) -> None:
    adopted(guest)
    with connected(guest) as host:
        host.ask("hello")
    # The agent's own slow clock may tick once or twice; a busy loop would count thousands.
    before = wait_at_rest(guest).wakeups
    time.sleep(5)
    assert agent_usage(guest).wakeups - before < 20


def test_a_vf_whose_gateway_is_silent_is_left_and_tried_again(
    guests: Guests, network: Network
) -> None:
    guest = guests.start()
    guest.write_file(
        "/etc/guestagent/guestagent.toml",
        "[health]\ngateway = true\ninterval-s = 1\nhold-down-s = 10\n",
    )
    guest.run("systemctl restart guestagent")
    adopted(guest)
    pair = guest.setup.pairs[0]
    tap = guest.setup.tap(pair, "v")
    network.forward(tap, on=False)

    def reason() -> str:
        return str(guest.run_json("guestagent status --json")["pairs"][0]["reason"])

    def left() -> bool:
        seen = look(guest)
        return seen.bonds[0].active == seen.standby(pair).name and "does not answer" in reason()

    wait_until("the VF is left", left, timeout_s=CONVERGED_S)
    wait_until(
        "it is told",
        lambda: "tried again" in guest.run("journalctl -u guestagent -o cat"),
        timeout_s=CONVERGED_S,
    )
    network.forward(tap, on=True)
    wait_until("the VF carries again", lambda: reason() == "on the VF", timeout_s=CONVERGED_S)


@pytest.mark.parametrize("arguments", ["switch sideways", "switch standby --hold soon"])
def test_wrong_usage_is_exit_code_2_and_changes_nothing(guest: Machine, arguments: str) -> None:
    assert guest.execute(f"guestagent {arguments}").code == 2
