"""Host and guest in step: nothing is lost, and a guest is never left on its slow NIC."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lab.base.waiting import wait_until
from lab.machine.guests import Guests
from lab.machine.machine import Machine
from lab.network.wires import Network
from lab.probe.probe import Probe
from tests.guest.seen import look, wait_converged, wait_on_vf
from tests.vm.helper import describe, mortal, must_be_killed, run

BLOCK_UNPLUG = "echo disable > /sys/firmware/acpi/interrupts/gpe01"  # Q: hw/acpi/ich9.c
BRIEF = "[timeouts]\nunplug_s = 5\nunplug_requests = 1\n"
HOLD_S = 1 * (5 + 5) + 30
"""Hold that the helper requests with these timeouts: the unplug, a pause and a margin."""


@pytest.fixture
def source(guest: Machine) -> Machine:
    """Return a guest that has settled on its VF."""
    guest.plug_vf()
    wait_on_vf(guest)
    wait_converged(guest)
    return guest


@pytest.fixture
def destination(source: Machine, guests: Guests) -> Machine:
    """Return a QEMU that waits for the guest."""
    return guests.destination(source)


def on_standby(guest: Machine) -> bool:
    """Whether the guest's traffic is on its standby although the VF is there."""
    seen, pair = look(guest), guest.setup.pairs[0]
    bond = seen.bond(pair)
    return bond is not None and bond.active == seen.standby(pair).name


def test_detach_and_attach_in_step_with_the_guest_lose_nothing(
    source: Machine, destination: Machine, network: Network, tmp_path: Path
) -> None:
    description = describe(tmp_path, source, destination)
    with Probe(network) as probe:
        probe.start(source)
        detached = run(description, "detach")
        attached = run(description, "attach")
        result = probe.stop(source)
    assert (detached["guest"], detached["warnings"]) == ({"switched": True, "confirmed": None}, [])
    assert (attached["guest"]["confirmed"], attached["warnings"]) == (True, [])
    assert result.lost_on_the_way == 0


def test_a_vf_that_does_not_go_is_used_again_and_nothing_is_lost(
    source: Machine, destination: Machine, network: Network, tmp_path: Path
) -> None:
    source.run(BLOCK_UNPLUG)
    with Probe(network) as probe:
        probe.start(source)
        report = run(describe(tmp_path, source, destination, BRIEF), "detach")
        result = probe.stop(source)
    assert (report["result"], report["exit_code"]) == ("failed", 1)
    assert report["phases"][-1]["name"] == "return"
    wait_on_vf(source)
    assert source.run_json("guestagent status --json")["pairs"][0]["held_s"] is None
    assert result.lost_on_the_way == 0


def test_a_guest_whose_helper_died_returns_to_its_vf_when_the_hold_ends(
    source: Machine, destination: Machine, tmp_path: Path
) -> None:
    source.run(BLOCK_UNPLUG)
    description = describe(tmp_path, source, destination, BRIEF)
    must_be_killed(mortal(description, "after", "switch", command="detach"))
    assert on_standby(source)
    held_s = source.run_json("guestagent status --json")["pairs"][0]["held_s"]
    assert 0 < held_s <= HOLD_S
    wait_until("the hold has ended", lambda: not on_standby(source), timeout_s=HOLD_S + 60)
    wait_on_vf(source)


def test_qemu_ga_is_the_way_where_there_is_no_channel(
    source: Machine, destination: Machine, tmp_path: Path
) -> None:
    description = describe(tmp_path, source, destination)
    description.write_text(re.sub(r"(?m)^agent = .*\n", "", description.read_text()))
    report = run(description, "detach")
    assert (report["guest"]["switched"], report["warnings"]) == (True, [])
    assert run(description, "attach")["guest"]["confirmed"] is True


def test_a_guest_without_an_agent_is_migrated_all_the_same(
    source: Machine, destination: Machine, tmp_path: Path
) -> None:
    source.run("systemctl stop guestagent")
    report = run(describe(tmp_path, source, destination), "migrate")
    assert (report["result"], report["running_on"]) == ("done", "destination")
    assert report["guest"] == {"switched": False, "confirmed": False}, "it was asked twice"
    assert "could not be asked to leave the VF" in report["warnings"][0]
    destination.run("systemctl start guestagent")
    wait_on_vf(destination)
