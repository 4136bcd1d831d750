"""Taking bonds apart: the NIC has its network back, from wherever it began or was cut short."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guestagent.guest.core.addressing import ACCEPT_RA, Address, Route, Setting
from guestagent.guest.reconcile.observe import DRAIN_S
from tests.fakes.system import FakeSystem

MAC = "52:54:00:00:00:01"
ADDRESS = Address(family=socket.AF_INET, address="192.0.2.10", prefix_length=24)
ADDRESS6 = Address(family=socket.AF_INET6, address="2001:db8::a", prefix_length=64)
DEFAULT = Route(family=socket.AF_INET, destination=None, prefix_length=0, gateway="192.0.2.1")
Begin = Callable[[], tuple[FakeSystem, int, int]]


def on_the_vf() -> tuple[FakeSystem, int, int]:
    """Return a guest whose bond carries its addresses on the VF, with standby and VF."""
    system = FakeSystem()
    standby = system.kernel.plug("ens2", MAC, driver="virtio_net", up=True)
    system.kernel.owned[standby] = [ADDRESS, ADDRESS6]
    system.kernel.routed[standby] = [DEFAULT]
    vf = system.kernel.plug("ens3", MAC)
    for _ in range(3):
        assert system.engine().converge().error is None
        system.later(60)
    return system, standby, vf


def on_the_standby() -> tuple[FakeSystem, int, int]:
    """Return a guest whose VF is there and avoided by the kernel: it has no carrier."""
    system, standby, vf = on_the_vf()
    system.kernel.set_carrier(vf, carrier=False)
    system.engine().converge()
    return system, standby, vf


def undone(system: FakeSystem) -> None:
    system.undone.macs.add(MAC)
    for _ in range(4):
        assert system.engine().converge().error is None
        system.later(DRAIN_S)


def assert_apart(system: FakeSystem, standby: int, vf: int) -> None:
    kernel = system.kernel
    assert set(kernel.table) == {standby, vf}
    assert set(kernel.addresses(standby)) == {ADDRESS, ADDRESS6}
    assert kernel.routes(standby) == (DEFAULT,)
    assert (kernel.table[standby].up, kernel.table[standby].ipv6_addr_gen) == (True, True)
    assert (kernel.table[vf].up, kernel.table[vf].ipv6_addr_gen) == (False, True)
    assert kernel.addresses(vf) == ()
    assert system.stack.loaded == {"/run/bond0-standby": "ens2 as before"}


@pytest.mark.parametrize("begin", [on_the_vf, on_the_standby])
def test_the_nic_gets_its_network_back_and_the_vf_is_left_alone(begin: Begin) -> None:
    system, standby, vf = begin()
    undone(system)
    assert_apart(system, standby, vf)
    assert system.sent, "the addresses are announced"
    outcome = system.engine().converge()
    assert outcome.plan.actions == ()
    assert [item.reason for item in outcome.plan.refusals] == ["taken apart by `guestagent undo`"]


def test_a_nic_whose_stack_makes_its_ipv6_addresses_gets_none_of_the_kernel() -> None:
    system, standby, _ = on_the_vf()
    system.kernel.set_ipv6_addr_gen(system.kernel.named("bond0").ifindex, on=False)
    undone(system)
    name = system.kernel.table[standby].name
    assert Setting(key=ACCEPT_RA, value="0") in system.kernel.settings(name)
    assert not system.kernel.table[standby].ipv6_addr_gen


def test_the_vf_carries_the_traffic_until_the_nic_is_operational() -> None:
    system, standby, vf = on_the_vf()
    system.kernel.stalled.add(standby)
    system.undone.macs.add(MAC)
    outcome = system.engine().converge()
    bond = system.kernel.named("bond0")
    assert bond.bond is not None
    assert bond.bond.active == vf
    assert set(system.kernel.addresses(bond.ifindex)) == {ADDRESS, ADDRESS6}
    assert outcome.plan.waiting == (
        "ens2 takes the addresses of bond0 back once it has a carrier",
    )
    assert system.stack.loaded != {}, "the files stay until the NIC takes over"
    system.kernel.stalled.clear()
    undone(system)
    assert_apart(system, standby, vf)


def test_a_nic_without_a_carrier_is_not_taken_out() -> None:
    system, standby, vf = on_the_vf()
    system.kernel.set_carrier(standby, carrier=False)
    system.undone.macs.add(MAC)
    outcome = system.engine().converge()
    assert outcome.plan.actions == ()
    assert "ens2 has no carrier" in outcome.plan.waiting[0]
    assert system.kernel.table[standby].upper == system.kernel.table[vf].upper is not None


def test_the_bond_outlives_its_addresses_by_the_drain_time() -> None:
    system, _, vf = on_the_vf()
    system.undone.macs.add(MAC)
    system.engine().converge()
    assert system.kernel.table[vf].upper == system.kernel.named("bond0").ifindex
    assert system.stability.next_s == DRAIN_S


def test_an_undone_pair_can_be_adopted_again() -> None:
    system, _, vf = on_the_vf()
    undone(system)
    system.undone.macs.clear()
    assert system.engine().converge().error is None
    bond = system.kernel.named("bond0")
    assert bond.bond is not None
    assert bond.bond.active == vf
    assert set(system.kernel.addresses(bond.ifindex)) == {ADDRESS, ADDRESS6}


def test_a_bond_below_a_vlan_stays_whole() -> None:
    system, standby, _ = on_the_vf()
    bond = system.kernel.named("bond0").ifindex
    system.kernel.add_virtual("bond0.5", MAC, "vlan", lower=bond)
    system.undone.macs.add(MAC)
    outcome = system.engine().converge()
    assert "bond0.5 uses bond0" in outcome.plan.refusals[0].reason
    assert system.kernel.table[standby].upper == bond


@pytest.mark.parametrize(
    "method", ["set_upper", "set_up", "add_address", "put_route", "delete_address", "delete_link"]
)
@pytest.mark.parametrize("begin", [on_the_vf, on_the_standby])
def test_a_step_that_fails_is_repeated(begin: Begin, method: str) -> None:
    system, standby, vf = begin()
    system.undone.macs.add(MAC)
    system.kernel.refuse(method, errno.EBUSY)
    errors = []
    for _ in range(5):
        errors.append(system.engine().converge().error)
        system.later(DRAIN_S)
    assert len([error for error in errors if error is not None]) == 1
    assert_apart(system, standby, vf)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([on_the_vf, on_the_standby]), st.lists(st.integers(0, 8), max_size=4))
def test_an_undo_that_is_cut_short_anywhere_ends_the_same(begin: Begin, cuts: list[int]) -> None:
    system, standby, vf = begin()
    system.undone.macs.add(MAC)
    for cut in cuts:
        engine = system.engine()
        assert engine._applier.apply(engine.look().plan.actions[:cut]) == {}
        owned = [set(system.kernel.addresses(nic)) for nic in system.kernel.table]
        assert {ADDRESS} <= set().union(*owned), "the address is always somewhere"
        system.later(DRAIN_S)
    undone(system)
    assert_apart(system, standby, vf)
