"""A real guest with a VF, the agent in it, two QEMUs, and the host helper beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.base.waiting import wait_until
from lab.machine.guests import Guests
from lab.machine.machine import Machine
from tests.guest.seen import look, wait_on_standby, wait_on_vf
from tests.vm.helper import describe, inspect, run, started

SLOW = "[migration]\nbandwidth_limit_mib_per_s = 1\n"


@pytest.fixture
def source(guest: Machine) -> Machine:
    """Return a guest that is on its VF."""
    guest.plug_vf()
    wait_on_vf(guest)
    return guest


@pytest.fixture
def destination(source: Machine, guests: Guests) -> Machine:
    """Return a QEMU that waits for the guest."""
    return guests.destination(source)


def assert_as_before(source: Machine, report: dict[str, object]) -> None:
    """The guest runs at the source, on its VF."""
    assert (report["result"], report["exit_code"]) == ("failed", 1)
    assert (report["running_on"], report["accelerated"]) == ("source", True)
    assert report["message"]
    assert report["hint"]
    assert source.qmp("query-status")["status"] == "running"
    wait_on_vf(source)


def wait_moving(source: Machine) -> None:
    """Wait until the memory of the guest is under way."""
    wait_until(
        "the guest moves",
        lambda: source.qmp("query-migrate").get("status") == "active",
        timeout_s=120.0,
    )


def test_a_guest_goes_from_vf_to_standby_to_vf(
    source: Machine, destination: Machine, tmp_path: Path
) -> None:
    report = run(describe(tmp_path, source, destination), "migrate")
    assert (report["result"], report["running_on"]) == ("done", "destination")
    assert report["accelerated"] is True
    assert [phase["name"] for phase in report["phases"]] == [
        "prepare",
        "switch",
        "detach",
        "launch",
        "migrate",
        "decide",
        "attach",
        "confirm",
    ]
    wait_on_vf(destination)
    assert source.qmp("query-status")["status"] == "postmigrate"
    assert source.qmp("query-migrate")["status"] == "completed"
    assert destination.qmp("query-status")["status"] == "running"
    assert destination.qmp("query-migrate")["status"] == "completed"
    assert not source.has_device("vf0")
    # The moments lie in the phases that they belong to.
    at = {moment["name"]: moment["at_s"] for moment in report["moments"]}
    assert at["device_deleted"] < at["stop"] < at["resume"] < at["device_added"]
    assert 0 < report["migration"]["downtime_ms"] <= report["migration"]["total_ms"]


def test_a_guest_goes_on_unaccelerated_where_there_is_no_vf(
    source: Machine, destination: Machine, tmp_path: Path
) -> None:
    description = describe(tmp_path, source, destination, "destination_vf = false")
    report = run(description, "migrate")
    assert (report["result"], report["exit_code"]) == ("done", 0)
    assert report["accelerated"] is False
    assert "un-accelerated" in report["warnings"][0]
    wait_on_standby(destination)


def ways(source: Machine, last: str) -> list[str]:
    """Return QEMU's migration states when ``last`` is the last of them; none before."""
    said = [each.data["status"] for each in source.events if each.name == "MIGRATION"]
    return said if said[-1:] == [last] else []


WRITE = """
memory = bytearray(64 << 20)
while True:
    for at in range(0, len(memory), 4096):
        memory[at] ^= 1
"""


def test_a_guest_that_writes_faster_than_can_be_sent_moves_by_post_copy(
    source: Machine, destination: Machine, tmp_path: Path
) -> None:
    source.write_file("/run/write.py", WRITE)
    source.run("systemd-run --quiet --unit=writer python3 /run/write.py")
    options = ("--postcopy", "--bandwidth", "48")
    report = run(describe(tmp_path, source, destination), "migrate", *options)
    assert (report["result"], report["running_on"]) == ("done", "destination")
    said = wait_until("it has ended", lambda: ways(source, "completed"), timeout_s=60.0)
    assert said[-2:] == ["postcopy-active", "completed"]
    at = {moment["name"]: moment["at_s"] for moment in report["moments"]}
    assert at["postcopy"] < at["device_added"], "the VF comes once all memory is there"
    assert destination.qmp("query-migrate")["status"] == "completed"
    assert destination.run("systemctl is-active writer").strip() == "active"
    wait_on_vf(destination)


def test_a_destination_that_dies_leaves_the_guest_with_its_vf(
    source: Machine, destination: Machine, tmp_path: Path
) -> None:
    description = describe(tmp_path, source, destination, SLOW)
    with started(description, "migrate") as helper:
        wait_moving(source)
        assert not source.has_device("vf0")
        destination.qmp("quit")
        report = helper.report()
    assert "destination: QEMU has ended" in report["message"]
    assert_as_before(source, report)


def test_a_cancelled_migration_leaves_the_guest_with_its_vf(
    source: Machine, destination: Machine, tmp_path: Path
) -> None:
    with started(describe(tmp_path, source, destination, SLOW), "migrate") as helper:
        wait_moving(source)
        helper.interrupt()
        report = helper.report()
    assert report["message"] == "cancelled by the operator"
    assert source.qmp("query-migrate")["status"] == "cancelled"
    assert_as_before(source, report)


def test_a_guest_that_never_answers_keeps_its_vf(
    source: Machine, destination: Machine, tmp_path: Path
) -> None:
    # Requests to release a PCI device come as this event of ACPI (Q: hw/acpi/ich9.c).
    source.run("echo disable > /sys/firmware/acpi/interrupts/gpe01")
    more = "[timeouts]\nunplug_s = 5\nunplug_requests = 2\n"
    report = run(describe(tmp_path, source, destination, more), "migrate")
    assert "did not release vf0 within 5 s" in report["message"]
    assert_as_before(source, report)
    assert source.has_device("vf0")
    (detach,) = [phase for phase in report["phases"] if phase["name"] == "detach"]
    # Two requests, five seconds between them, and no third.
    assert 15 <= detach["end_s"] - detach["start_s"] < 30
    assert destination.qmp("query-status")["status"] == "inmigrate"


def test_a_paused_guest_is_left_alone(
    source: Machine, destination: Machine, tmp_path: Path
) -> None:
    source.qmp("stop")
    report = run(describe(tmp_path, source, destination), "migrate")
    assert (report["result"], report["running_on"]) == ("failed", None)
    assert "stands still" in report["message"]
    assert source.qmp("query-status")["status"] == "paused"
    source.qmp("cont")
    wait_on_vf(source)


def test_a_vf_that_the_destination_cannot_attach_is_told(
    source: Machine, destination: Machine, tmp_path: Path
) -> None:
    more = 'destination_vf = { netdev = "nowhere" }\n[timeouts]\nattach_tries = 2\n'
    description = describe(tmp_path, source, destination, more)
    report = run(description, "migrate")
    assert (report["result"], report["running_on"]) == ("failed", "destination")
    assert report["accelerated"] is False
    assert "nowhere" in report["warnings"][0]
    wait_on_standby(destination)
    # The operator does what the hint says.
    assert "attach --on destination" in report["hint"]
    report = run(describe(tmp_path, source, destination), "attach", "--on", "destination")
    assert (report["result"], report["accelerated"]) == ("done", True)
    wait_on_vf(destination)


def test_a_port_that_the_destination_lacks_is_told_before_anything_is_taken_away(
    source: Machine, destination: Machine, tmp_path: Path
) -> None:
    description = describe(tmp_path, source, destination, 'destination_vf = { bus = "nowhere" }')
    report = run(description, "migrate")
    assert "vf0 is described for nowhere, which is no port" in report["message"]
    assert source.has_device("vf0")
    assert destination.qmp("query-status")["status"] == "inmigrate"
    wait_on_vf(source)


def test_inspect_shows_what_the_guest_sees(
    source: Machine, destination: Machine, tmp_path: Path
) -> None:
    report = inspect(describe(tmp_path, source, destination))
    pair = source.setup.pairs[0]
    nics = {nic["role"]: nic for nic in report["nics"]}
    assert {nic["mac"] for nic in nics.values()} == {pair.mac}
    seen = look(source)
    vf, bond = seen.vf(pair), seen.bond(pair)
    assert vf is not None
    assert bond is not None
    names = {bond.name, vf.name, seen.standby(pair).name}
    assert set(nics["vf"]["guest_interfaces"]) == names
    in_guest = source.run("cd /sys/bus/pci/devices && ls").split()
    assert {device["address"] for device in report["devices"]} == set(in_guest)
    free = [port["id"] for port in report["ports"] if port["free_address"]]
    assert free == list(source.setup.spare_ports())
