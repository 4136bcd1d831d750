"""The helper is killed at every point of its journal; ``recover`` makes one whole guest of it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from lab.base.waiting import wait_until
from lab.machine.guests import Guests
from lab.machine.machine import Machine
from tests.guest.seen import wait_on_vf
from tests.vm.helper import describe, mortal, must_be_killed, run

SLOW = "[migration]\nbandwidth_limit_mib_per_s = 1\n"
MIGRATED = ("prepare", "switch", "detach", "launch", "migrate", "decide", "attach", "confirm")
CANCELLED = ("cancel", "restore", "return")
POINTS = [(phase, when) for phase in MIGRATED for when in ("before", "after")]
POINTS_OF_A_CANCELLED = [(phase, when) for phase in CANCELLED for when in ("before", "after")]


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


def assert_recovered_once(source: Machine, destination: Machine, description: Path) -> None:
    """One guest, with its network and a VF that nobody else has; and nothing left to do."""
    report = run(description, "recover")
    assert report["exit_code"] == 0
    assert report["result"] in {"done", "undone"}
    sides = {"source": source, "destination": destination}
    running = [name for name, qemu in sides.items() if runs(qemu)]
    assert len(running) == 1
    assert report["running_on"] in {*running, None}
    here = sides.pop(running[0])
    (elsewhere,) = sides.values()
    assert here.has_device("vf0")
    assert not (elsewhere.alive and elsewhere.has_device("vf0"))
    wait_on_vf(here)
    here.run(f"ping -c 1 -W 30 {here.setup.pairs[0].peer_addresses[0].split('/')[0]}")
    journal = sorted((description.parent / "state").rglob("*.jsonl"))
    before = [path.read_bytes() for path in journal]
    assert run(description, "recover")["result"] == "nothing"
    assert [path.read_bytes() for path in journal] == before


def runs(qemu: Machine) -> bool:
    """Whether the guest runs there."""
    return qemu.alive and qemu.qmp("query-status")["status"] == "running"


@pytest.mark.parametrize(("phase", "when"), POINTS)
def test_a_killed_migration_is_finished_or_undone(
    source: Machine, destination: Machine, tmp_path: Path, phase: str, when: str
) -> None:
    description = describe(tmp_path, source, destination)
    must_be_killed(mortal(description, when, phase))
    assert_recovered_once(source, destination, description)


@pytest.mark.parametrize(("phase", "when"), POINTS_OF_A_CANCELLED)
def test_a_migration_killed_while_it_is_cancelled_is_undone(
    source: Machine, destination: Machine, tmp_path: Path, phase: str, when: str
) -> None:
    description = describe(tmp_path, source, destination, SLOW)
    process = mortal(description, when, phase)
    wait_until(
        "the guest moves",
        lambda: source.qmp("query-migrate").get("status") == "active",
        timeout_s=120.0,
    )
    process.send_signal(signal.SIGINT)
    must_be_killed(process)
    assert_recovered_once(source, destination, description)
    assert runs(source)


def test_an_end_that_was_not_written_down_is_only_written_down(
    source: Machine, destination: Machine, tmp_path: Path
) -> None:
    description = describe(tmp_path, source, destination)
    assert run(description, "migrate")["result"] == "done"
    (path,) = (tmp_path / "state").rglob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    assert json.loads(lines[-1])["what"]["state"]["phase"] == "done"
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:40])
    assert_recovered_once(source, destination, description)
    assert runs(destination)
