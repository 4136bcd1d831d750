"""The parts of a migration apart, and over ssh; with a real guest."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest

from lab.guests import Guests
from lab.machine import Machine
from lab.network import Network
from lab.probe import Probe
from tests.guest.seen import wait_converged, wait_on_vf
from tests.vm.helper import describe, run


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
    assert [len(flow.lost) for flow in result.flows] == [0, 0, 0]
    source.migrate_to(destination)
    completed = run(description, "complete")
    assert (completed["result"], completed["running_on"]) == ("done", "destination")
    assert (completed["accelerated"], completed["warnings"]) == (True, [])
    wait_on_vf(destination)


def test_a_guest_moves_to_a_host_that_is_reached_over_ssh(
    source: Machine,
    destination: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What ssh would run there is run here; the far end is a process of its own all the same."""
    there = [sys.executable, "-m", "guestagent.host.cli", "serve"]
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f"#!/bin/sh\nexec {shlex.join(there)} --state-dir {tmp_path / 'far'}\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    description = describe(tmp_path, source, destination)
    report = run(description, "migrate", "--dest", "ssh://host2")
    assert (report["result"], report["running_on"]) == ("done", "destination")
    assert (report["accelerated"], report["guest"]["confirmed"]) == (True, True)
    wait_on_vf(destination)
