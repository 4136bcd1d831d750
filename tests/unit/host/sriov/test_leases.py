"""Leases on VFs: they survive a crash, and no two helpers get one VF."""

from __future__ import annotations

import asyncio
import fcntl
import os
from dataclasses import replace
from pathlib import Path

import pytest

from guestagent.errors import BusyError, ConflictError, SystemLacksError
from guestagent.host.sriov.base import NotLeasedError, NoVfError
from guestagent.host.sriov.core.model import (
    LeaseOwner,
    LinkState,
    OnRefusal,
    PortProfile,
    Standby,
    VfSettings,
    Want,
)
from guestagent.host.sriov.links import HostLink
from guestagent.host.sriov.pool import pool_in_thread
from tests.fakes.hosttree import FakeHost, vf_address

MAC = "52:54:00:aa:00:01"
WEB1 = LeaseOwner(vm="web1", operation="one")
VF = vf_address(0, 0)


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(root=tmp_path).build()


def settings(**values: object) -> VfSettings:
    return replace(VfSettings(mac=MAC), **values)  # type: ignore[arg-type]


# --- who has a VF ----------------------------------------------------------------------------


def test_a_vf_in_use_is_not_claimed(host: FakeHost) -> None:
    host.open_by(VF, 4711, "qemu")
    assert host.pool().claim(Want(), WEB1).vf == vf_address(0, 1)
    with pytest.raises(NoVfError, match=r"process 4711 \(qemu\)"):
        host.pool().claim(Want(vf=VF), WEB1)


def test_a_vf_that_a_vm_uses_can_be_adopted(host: FakeHost) -> None:
    host.bind(VF, "vfio-pci")
    host.open_by(VF, 4711, "qemu")
    lease = host.pool().adopt(VF, WEB1, settings())
    host.close_by(4711)
    host.pool().release(lease)
    assert host.driver(VF) == "vfio-pci"


def test_a_vf_of_the_host_is_free_while_its_interface_is_down(host: FakeHost) -> None:
    host.give_interface(VF, "eth3")
    links = host.links()
    links.changes[60] = HostLink(ifindex=60, name="eth3", names=("eth3",))
    lease = host.pool(links).claim(Want(vf=VF), WEB1)
    assert lease.former_driver == "igbvf"
    host.pool(links).release(lease)
    links.changes[60] = HostLink(ifindex=60, name="eth3", names=("eth3",), up=True)
    with pytest.raises(NoVfError, match="interface eth3 is up"):
        host.pool(links).claim(Want(vf=VF), WEB1)


def test_an_interface_that_is_elsewhere_is_in_use(host: FakeHost) -> None:
    host.bind(VF, "igbvf")
    with pytest.raises(NoVfError, match="driver igbvf, whose interface is not here"):
        host.pool().claim(Want(vf=VF), WEB1)


def test_two_vfs_of_one_group_do_not_go_to_two_vms(host: FakeHost) -> None:
    other = vf_address(0, 1)
    host.share_group(other, VF)
    host.pool().claim(Want(vf=VF), WEB1)
    with pytest.raises(NoVfError, match=f"shares IOMMU group 100 with {VF}"):
        host.pool().claim(Want(vf=other), LeaseOwner(vm="web2", operation="two"))


# --- records ---------------------------------------------------------------------------------


def test_a_record_that_cannot_be_read_stops_everything(host: FakeHost) -> None:
    host.pool().claim(Want(vf=VF), WEB1)
    record = host.root / "vfs" / f"{VF}.json"
    record.write_text("{")
    with pytest.raises(ConflictError, match="not the record of a lease"):
        host.pool().claim(Want(), WEB1)


def test_a_claim_that_died_before_its_record_was_whole_left_nothing(host: FakeHost) -> None:
    host.pool().claim(Want(vf=VF), WEB1)
    record = host.root / "vfs" / f"{VF}.json"
    record.rename(record.with_name(f".{record.name}.4711"))
    assert host.pool().leases() == ()
    assert host.pool().claim(Want(vf=VF), WEB1).vf == VF


def test_all_settings_survive_the_process(host: FakeHost) -> None:
    wanted = settings(
        vlan=7,
        trust=True,
        link_state=LinkState.ENABLE,
        max_rate_mbit_per_s=10,
        port_profile=PortProfile(name="gold", instance="0" * 32),
        standby=Standby(link="tap0", mac=MAC),
        on_refusal=OnRefusal.FAIL,
    )
    lease = host.pool().adopt(VF, WEB1, wanted)
    assert host.pool().leases() == (lease,)
    assert lease.settings == wanted


def test_a_lease_cannot_be_used_by_who_lost_it(host: FakeHost) -> None:
    lease = host.pool().claim(Want(vf=VF), WEB1)
    host.pool().adopt(VF, LeaseOwner(vm="web1", operation="later"), settings())
    with pytest.raises(NotLeasedError, match=r"web1 \(later\) has"):
        host.pool().program(lease, settings())


def test_a_lock_that_is_never_let_go_is_waited_for_in_bounded_time(host: FakeHost) -> None:
    host.pool().claim(Want(vf=VF), WEB1)
    with (host.root / "vfs" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="lock: held by another process for 30 s"):
            host.pool().claim(Want(), WEB1)


def test_a_file_system_that_says_no_is_no_crash_in_the_middle_of_an_operation(
    host: FakeHost,
) -> None:
    async def claim() -> None:
        pool = pool_in_thread(host.pool)
        try:
            await pool.claim(Want(vf=VF), WEB1)
        finally:
            await pool.close()

    in_the_way = host.root / "vfs" / f".{VF}.json.{os.getpid()}"
    in_the_way.mkdir(parents=True)
    with pytest.raises(SystemLacksError, match="Is a directory"):
        asyncio.run(claim())
