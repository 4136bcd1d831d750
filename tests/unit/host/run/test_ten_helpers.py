"""Ten helpers at once, each a process of its own, on the VFs of the same hosts.

The hypervisors and the hardware are fakes; leases, locks, records and the
programming of VFs are the real ones, and so is the time.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from guestagent.host.hypervisor.base import Ends
from guestagent.host.hypervisor.qmp.qemu import Qemu
from guestagent.host.migration.state import Goal, Phase
from guestagent.host.model import End, PairConfig
from guestagent.host.run.driver import Driver
from guestagent.host.run.vf_steps import VfProvisioner
from guestagent.host.sriov.base import NoVfError
from guestagent.host.sriov.core.model import NO_MAC, LeaseOwner, Provision, VfSettings, Want
from guestagent.host.sriov.pool import Pool, pool_in_thread
from tests.fakes.hosttree import FakeHost, vf_address
from tests.unit.host.support import World, world

HELPERS = 10
ROUNDS = 5
MEETING_S = 60.0


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(HELPERS, mp_context=context) as executor:
        yield executor


def source(root: Path) -> FakeHost:
    """Return the host where ten VMs run, each with a VF."""
    return FakeHost(root=root / "source", vfs=HELPERS)


def destination(root: Path) -> FakeHost:
    """Return the host with six VFs for them, of two PFs."""
    return FakeHost(root=root / "destination", pfs=2, vfs=3)


def on_time(host: FakeHost) -> Pool:
    """Return a pool that waits for real: other processes hold the lock meanwhile."""
    return Pool(host.root / "vfs", host.links(), vfio=host.vfio())


def mac_of(number: int) -> str:
    return f"52:54:00:aa:00:{number:02x}"


def meet(root: Path, number: int) -> None:
    """Return when all helpers are there."""
    (root / f"here-{number}").touch()
    end = time.monotonic() + MEETING_S
    while len(list(root.glob("here-*"))) < HELPERS:
        if time.monotonic() > end:
            raise TimeoutError("not all helpers came")
        os.sched_yield()


def macs(host: FakeHost) -> list[str]:
    """Return the MAC of every VF of a host."""
    return [
        vf.state.mac for pf in host.pool().inventory().pfs for vf in pf.vfs if vf.state is not None
    ]


# --- claims and releases ---------------------------------------------------------------------


def churn(root: Path, number: int) -> int:
    """Claim, program, own for a moment and release, again and again; return how often it got one.

    Raises FileExistsError when a VF has two owners.
    """
    pool = on_time(destination(root))
    meet(root, number)
    got = 0
    for _ in range(ROUNDS):
        with suppress(NoVfError):
            owner = LeaseOwner(vm=f"web{number}", operation="one")
            lease = pool.claim(Want(pfs=("physnet1", "physnet2")), owner)
            got += 1
            lease = pool.program(lease, VfSettings(mac=mac_of(number)))
            mine = root / f"owned-{lease.vf}"
            mine.touch(exist_ok=False)
            found = pool.inventory().vf(lease.vf)
            assert found is not None
            assert found[1].state is not None
            assert found[1].state.mac == mac_of(number)
            mine.unlink()
            pool.release(lease)
    return got


def test_ten_helpers_never_get_one_vf(tmp_path: Path, processes: ProcessPoolExecutor) -> None:
    host = destination(tmp_path).build()
    running = [processes.submit(churn, tmp_path, number) for number in range(HELPERS)]
    assert sum(each.result(timeout=120) for each in running) >= len(macs(host))
    assert host.pool().leases() == ()
    assert set(macs(host)) == {NO_MAC}


# --- migrations ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """Result of one VM: the VF that its QEMU at the destination got, if any."""

    phase: Phase
    vf: object
    warnings: tuple[str, ...]


def migrate(root: Path, number: int) -> Migrated:
    """Migrate a VM that has a VF, with VFs claimed and programmed on both hosts."""
    return asyncio.run(_migrate(root, number))


async def _migrate(root: Path, number: int) -> Migrated:
    directory = root / f"vm{number}"
    directory.mkdir()
    makers: dict[End, Callable[[], Pool]] = {
        End.SOURCE: lambda: on_time(source(root)),
        End.DESTINATION: lambda: on_time(destination(root)),
    }
    pools = {end: pool_in_thread(make) for end, make in makers.items()}
    async with world(directory) as stage:
        _describe(stage, number)
        ends = Ends(
            source=Qemu(stage.source.path, End.SOURCE, timeout_s=MEETING_S),
            destination=Qemu(stage.destination.path, End.DESTINATION, timeout_s=MEETING_S),
        )
        driver = Driver(
            stage.vm,
            ends,
            stage.guests,
            observer=stage.watcher,
            recorder=stage.recorder,
            provisioner=VfProvisioner(stage.vm, pools),
            clock=time.monotonic,
        )
        meet(root, number)
        outcome = await driver.run(stage.first_state(Goal.MIGRATE))
        for pool in pools.values():
            await pool.close()
        for hypervisor in ends.connected.values():
            await hypervisor.close()
        device = stage.destination.devices.get("vf0", {})
        return Migrated(
            phase=outcome.state.phase,
            vf=device.get("host"),
            warnings=outcome.state.warnings,
        )


def _describe(stage: World, number: int) -> None:
    settings = VfSettings(mac=mac_of(number), vlan=number)
    (pair,) = stage.vm.pairs
    provided = PairConfig(
        mac=mac_of(number),
        standby=pair.standby,
        vf=pair.vf,
        destination_vf=pair.destination_vf,
        sriov=Provision(want=Want(vf=vf_address(0, number)), settings=settings),
        destination_sriov=Provision(want=Want(vlan=number), settings=settings),
    )
    stage.vm = replace(stage.vm, name=f"web{number}", pairs=(provided,))


def test_ten_migrations_at_once_give_no_vf_twice(
    tmp_path: Path, processes: ProcessPoolExecutor
) -> None:
    here, there = source(tmp_path).build(), destination(tmp_path).build()
    for number in range(HELPERS):
        owner = LeaseOwner(vm=f"web{number}", operation="start")
        lease = here.pool().claim(Want(vf=vf_address(0, number)), owner)
        here.pool().program(lease, VfSettings(mac=mac_of(number), vlan=number))
    running = [processes.submit(migrate, tmp_path, number) for number in range(HELPERS)]
    outcomes = [each.result(timeout=120) for each in running]
    assert {outcome.phase for outcome in outcomes} == {Phase.DONE}

    given = {number: outcome.vf for number, outcome in enumerate(outcomes) if outcome.vf}
    assert len(set(given.values())) == len(given) == len(macs(there))
    unaccelerated = [outcome for outcome in outcomes if outcome.vf is None]
    assert all(outcome.warnings for outcome in unaccelerated)

    leases = {lease.vf: lease for lease in there.pool().leases()}
    assert {vf: lease.owner.vm for vf, lease in leases.items()} == {
        vf: f"web{number}" for number, vf in given.items()
    }
    inventory = there.pool().inventory()
    for number, vf in given.items():
        found = inventory.vf(str(vf))
        assert found is not None
        assert found[1].state is not None
        assert (found[1].state.mac, found[1].state.vlan) == (mac_of(number), number)

    assert here.pool().leases() == ()
    assert set(macs(here)) == {NO_MAC}
