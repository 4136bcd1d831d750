"""The parts of a migration apart, and over ssh; with a real guest."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.base.waiting import wait_until
from lab.machine.guests import Guests
from lab.machine.machine import Machine
from lab.network.wires import Network
from lab.probe.probe import Probe
from tests.guest.seen import wait_converged, wait_on_vf
from tests.vm.bare import bare_qemu
from tests.vm.farhost import FarHost
from tests.vm.helper import describe, run, started

BARE = """
[source]
qmp = "{}/a"
[destination]
qmp = "{}/b"
uri = "unix:{}/migration"
[[pair]]
mac = "52:54:00:aa:00:01"
standby = "net0"
vf = { driver = "e1000e", id = "vf0", bus = "rp2", netdev = "vf" }
"""


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


def test_a_guest_that_somebody_else_moves_is_prepared_and_completed(
    source: Machine, destination: Machine, network: Network, tmp_path: Path
) -> None:
    description = describe(tmp_path, source, destination)
    with Probe(network) as probe:
        probe.start(source)
        prepared = run(description, "prepare")
        early = run(description, "complete")
        back = run(description, "rollback")
        again = run(description, "prepare")
        result = probe.stop(source)
    assert [report["result"] for report in (prepared, early, back, again)] == [
        "prepared",
        "prepared",
        "undone",
        "prepared",
    ]
    assert [report["exit_code"] for report in (prepared, early, back, again)] == [0, 75, 0, 0]
    assert result.lost_on_the_way == 0
    source.migrate_to(destination)
    completed = run(description, "complete")
    assert (completed["result"], completed["running_on"]) == ("done", "destination")
    assert (completed["accelerated"], completed["warnings"]) == (True, [])
    wait_on_vf(destination)


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FarHost]:
    """Return the host of the destination, which ``ssh`` finds as host2."""
    with FarHost(tmp_path / "far") as host:
        monkeypatch.setenv("PATH", f"{host.path}:{os.environ['PATH']}")
        yield host


def test_a_guest_moves_to_a_host_that_is_reached_over_ssh(
    source: Machine, destination: Machine, far: FarHost, tmp_path: Path
) -> None:
    """The connection is cut while the memory moves, and another one is made."""
    description = describe(tmp_path, source, destination)
    to = ("--dest", "ssh://host2", "--bandwidth", "32")
    with started(description, "migrate", *to, enter=far.enter) as helper:
        wait_until(
            "the guest moves",
            lambda: source.qmp("query-migrate").get("status") == "active",
            timeout_s=60.0,
        )
        cut = far.sessions()
        for pid in cut:
            os.kill(pid, signal.SIGKILL)
        report = helper.report()
    assert cut
    assert (report["result"], report["running_on"]) == ("done", "destination")
    assert (report["accelerated"], report["guest"]["confirmed"]) == (True, True)
    wait_on_vf(destination)
    wait_until("nothing of it is left there", lambda: far.quiet, timeout_s=30.0)


def test_a_host_that_ssh_does_not_let_in_is_told_of_with_the_words_of_ssh(
    far: FarHost, tmp_path: Path
) -> None:
    with bare_qemu(tmp_path / "a"), bare_qemu(tmp_path / "b", incoming=True):
        description = tmp_path / "web1.toml"
        description.write_text(BARE.replace("{}", str(tmp_path)))
        to = ("--dest", "ssh://host2")
        assert run(description, "check", *to, enter=far.enter)["exit_code"] == 0
        far.admit(whom="host_key")
        report = run(description, "check", *to, enter=far.enter)
    (wrong,) = [each for each in report["findings"] if each["grade"] == "wrong"]
    assert "Permission denied (publickey)" in wrong["what"]
    assert "ssh must reach it without a password" in wrong["hint"]
