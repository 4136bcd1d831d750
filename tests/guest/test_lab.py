"""The lab itself: what the tests of this tier stand on."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from lab.base.waiting import wait_until
from lab.machine.guests import Freezer, Guests
from lab.machine.machine import Machine
from lab.machine.setup import NicPair, Setup
from lab.network.wires import Network
from lab.probe.probe import Probe
from tests.guest.seen import assert_nothing_lost

BROKEN_S = 2.0
"""Long enough for a guest to send although others have its processor."""
UNDER_WAY_S = 1.0


def test_a_guest_comes_up_with_all_its_units_well(guest: Machine) -> None:
    assert guest.run("systemctl is-system-running").strip() == "running"


def test_each_test_gets_the_guest_in_the_same_state(
    freezer: Freezer, network: Network, logs: Path
) -> None:
    with Machine.thaw(freezer.frozen(Setup()), network=network, logs=logs) as first:
        first.write_file("/var/tmp/mark", "left by the first")
    with Machine.thaw(freezer.frozen(Setup()), network=network, logs=logs) as second:
        assert second.execute("test -e /var/tmp/mark").code == 1


def test_the_peer_reaches_the_guest_over_both_families(guest: Machine, network: Network) -> None:
    for address in guest.setup.pairs[0].addresses:
        ping = network.peer("ping", "-c", "1", "-W", "30", address.split("/")[0])
        assert subprocess.run(ping, check=False, capture_output=True).returncode == 0


def test_a_vf_can_be_plugged_and_taken_away_again(guest: Machine) -> None:
    pair = guest.setup.pairs[0]

    def nics() -> int:
        links = guest.ip("link", "show")
        return sum("parentbus" in link and link["address"] == pair.mac for link in links)

    guest.plug_vf()
    wait_until("the guest has both NICs", lambda: nics() == 2, timeout_s=60)
    guest.unplug_vf()
    assert not guest.has_device(pair.vf)
    wait_until("the guest has one NIC", lambda: nics() == 1, timeout_s=60)


def test_files_are_in_place_before_the_guest_starts(guests: Guests) -> None:
    # A module that nothing else would load, and only the start of a guest loads.
    machine = guests.boot(Setup(files={"etc/modules-load.d/test.conf": "dummy\n"}))
    machine.wait_ready()
    machine.run("test -e /sys/module/dummy")


def test_the_probe_loses_nothing_on_a_calm_guest(guest: Machine, network: Network) -> None:
    with Probe(network, rate_hz=1000) as probe:
        probe.start(guest)
        time.sleep(5)
        result = probe.stop(guest)
    # A guest that is not run for a while sends less: those slots count as not sent.
    assert all(flow.sent > 100 for flow in result.flows)
    assert_nothing_lost(result)


def test_the_probe_sees_when_a_path_was_broken(guest: Machine, network: Network) -> None:
    with Probe(network) as probe:
        probe.start(guest)
        time.sleep(1)
        begin_s = time.monotonic()
        network.forward("peer", on=False)
        time.sleep(BROKEN_S)
        network.forward("peer", on=True)
        end_s = time.monotonic()
        time.sleep(1)
        result = probe.stop(guest)
    # What waited in a queue when the path broke is lost as well: on a busy machine, a while.
    around = (begin_s - UNDER_WAY_S, end_s + UNDER_WAY_S)
    for flow in result.flows:
        assert 40 < len(flow.lost) <= (around[1] - around[0]) * 500
        assert len(flow.lost_between(*around)) == len(flow.lost)


def test_two_pairs_have_wires_of_their_own(guests: Guests, network: Network) -> None:
    machine = guests.start(Setup(pairs=(NicPair(), NicPair(index=1))))
    for pair in machine.setup.pairs:
        address = pair.addresses[0].split("/")[0]
        machine.run(f"ping -c 1 -W 30 {pair.peer_addresses[0].split('/')[0]} -I {address}")
