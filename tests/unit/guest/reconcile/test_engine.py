"""The engine on a whole guest in memory: what a pair ends as, whatever happens."""

from __future__ import annotations

import errno
import socket

import pytest

from guestagent.guest.core.addressing import ACCEPT_RA, Address, Route, Setting
from guestagent.guest.core.link import Autoconfiguration
from guestagent.guest.core.policy import BondOptions, PairPolicy, Policy
from guestagent.guest.core.snapshot import RememberedPair
from guestagent.guest.reconcile.observe import UDEV_GRACE_S, WINDOW_S
from tests.fakes.system import FakeSystem, assert_on, paired

MAC = "52:54:00:00:00:01"
OTHER = "52:54:00:00:00:02"
ADDRESS = Address(family=socket.AF_INET, address="192.0.2.10", prefix_length=24)
DEFAULT = Route(family=socket.AF_INET, destination=None, prefix_length=0, gateway="192.0.2.1")


def test_a_pair_that_is_there_at_boot_is_bonded_with_the_vf_active() -> None:
    system = FakeSystem()
    standby, vf = paired(system, MAC)
    outcome = system.engine().converge()
    assert outcome.error is None
    bond = system.kernel.named("bond0")
    assert (bond.address, bond.up, bond.alias) == (MAC, True, f"guestagent: pair {MAC}")
    assert {system.kernel.table[nic].upper for nic in (standby, vf)} == {bond.ifindex}
    assert bond.bond is not None
    assert (bond.bond.active, bond.bond.primary) == (vf, vf)
    assert system.stack.loaded == {"/run/bond0": f"bond0 {MAC}"}
    assert system.memory.load() == (RememberedPair(mac=MAC, bond="bond0"),)


def test_the_window_closes_once_the_path_has_settled() -> None:
    system = FakeSystem()
    paired(system, MAC)
    system.engine().converge()
    state = system.kernel.named("bond0").bond
    assert state is not None
    assert state.all_ports_active
    assert system.stability.next_s == WINDOW_S
    system.later(WINDOW_S)
    system.engine().converge()
    state = system.kernel.named("bond0").bond
    assert state is not None
    assert not state.all_ports_active
    assert system.stability.next_s is None


def test_an_unplugged_vf_leaves_the_standby_and_comes_back_as_primary_under_another_name() -> None:
    system = FakeSystem()
    standby, vf = paired(system, MAC)
    system.engine().converge()
    system.kernel.unplug(vf)
    outcome = system.engine().converge()
    assert outcome.plan.actions == ()
    assert_on(system, standby)
    returned = system.kernel.plug("eth7", MAC)
    assert system.engine().converge().error is None
    assert_on(system, returned)
    assert system.kernel.named("bond0").bond.primary == returned  # type: ignore[union-attr]


def test_a_port_that_is_renamed_while_it_is_primary_is_made_primary_again() -> None:
    system = FakeSystem()
    _, vf = paired(system, MAC)
    system.engine().converge()
    system.kernel.rename(vf, "enp9s0")
    assert system.kernel.named("bond0").bond.primary is None  # type: ignore[union-attr]
    system.engine().converge()
    assert system.kernel.named("bond0").bond.primary == vf  # type: ignore[union-attr]


def test_a_remembered_pair_is_bonded_at_boot_without_its_vf() -> None:
    system = FakeSystem()
    system.memory.add(RememberedPair(mac=MAC, bond="bond3"))
    standby = system.kernel.plug("ens2", MAC, driver="virtio_net")
    system.engine().converge()
    assert_on(system, standby, "bond3")


def test_a_lone_virtio_nic_that_never_had_a_vf_is_not_touched() -> None:
    system = FakeSystem()
    nic = system.kernel.plug("ens2", MAC, driver="virtio_net", up=True)
    outcome = system.engine().converge()
    assert outcome.plan.actions == ()
    assert system.kernel.table[nic].upper is None
    assert len(system.kernel.table) == 1


def test_a_hot_plugged_vf_makes_the_bond_before_the_addresses_move() -> None:
    system = FakeSystem()
    standby = system.kernel.plug("ens2", MAC, driver="virtio_net", up=True)
    system.kernel.owned[standby] = [ADDRESS]
    system.kernel.routed[standby] = [DEFAULT]
    vf = system.kernel.plug("ens3", MAC, carrier=False)
    outcome = system.engine().converge()
    assert outcome.error is None
    assert any("keeps the traffic" in text for text in outcome.plan.waiting)
    assert system.kernel.addresses(standby) == (ADDRESS,)
    assert system.stack.disk == {}, "the stack would take the addresses off the NIC"
    system.kernel.set_carrier(vf, carrier=True)
    assert system.engine().converge().error is None
    bond = system.kernel.named("bond0").ifindex
    assert system.kernel.addresses(bond) == (ADDRESS,)
    assert system.kernel.routes(bond) == (DEFAULT,)
    assert system.kernel.addresses(standby) == ()
    assert system.kernel.table[standby].upper == bond
    assert system.stack.loaded == {"/run/bond0": f"bond0 {MAC}"}
    assert_on(system, vf)


@pytest.mark.parametrize(
    ("by", "quiet", "hears_routers"),
    [
        (Autoconfiguration.KERNEL, False, True),
        (Autoconfiguration.ROUTERS, False, False),
        (Autoconfiguration.STACK, True, False),
    ],
)
def test_the_kernel_makes_no_ipv6_address_at_boot_that_the_stack_makes(
    by: Autoconfiguration, quiet: bool, hears_routers: bool
) -> None:
    system = FakeSystem()
    system.stack.autoconfigures = by
    system.kernel.plug("ens2", MAC, driver="virtio_net", up=True)
    system.kernel.plug("ens3", MAC)
    # Interrupted between the VF and the standby, and begun again with the bond that is there.
    system.kernel.refuse("set_up", errno.EBUSY)
    assert system.engine().converge().error is not None
    assert not system.kernel.named("bond0").complete
    assert system.engine().converge().error is None
    assert system.kernel.named("bond0").complete
    assert system.kernel.named("bond0").ipv6_addr_gen is not quiet
    hears = Setting(key=ACCEPT_RA, value="1") in system.kernel.settings("bond0")
    assert hears is hears_routers


def test_a_vf_is_preferred_only_once_the_kernel_sends_on_it() -> None:
    system = FakeSystem()
    standby, vf = paired(system, MAC)
    system.engine().converge()
    system.kernel.unplug(vf)
    returned = system.kernel.plug("ens9", MAC)
    system.kernel.stalled.add(returned)
    outcome = system.engine().converge()
    assert_on(system, standby)
    assert outcome.plan.waiting == ("ens9 is a port of bond0 and has no carrier yet",)
    system.kernel.stalled.clear()
    system.engine().converge()
    assert_on(system, returned)


def test_a_vf_that_loses_its_carrier_is_not_preferred_until_it_is_operational_again() -> None:
    system = FakeSystem()
    standby, vf = paired(system, MAC)
    system.engine().converge()
    system.kernel.set_carrier(vf, carrier=False)
    system.engine().converge()
    system.kernel.stalled.add(vf)
    system.kernel.set_carrier(vf, carrier=True)
    assert_on(system, standby)
    system.kernel.stalled.clear()
    system.engine().converge()
    assert_on(system, vf)


def test_a_vf_that_goes_before_the_bond_carries_leaves_the_nic_as_it_was() -> None:
    system = FakeSystem()
    standby = system.kernel.plug("ens2", MAC, driver="virtio_net", up=True)
    system.kernel.owned[standby] = [ADDRESS]
    vf = system.kernel.plug("ens3", MAC, carrier=False)
    system.engine().converge()
    system.kernel.unplug(vf)
    outcome = system.engine().converge()
    assert outcome.error is None
    assert set(system.kernel.table) == {standby}
    assert system.kernel.addresses(standby) == (ADDRESS,)
    system.kernel.plug("ens3", MAC)
    system.engine().converge()
    assert system.kernel.addresses(system.kernel.named("bond0").ifindex) == (ADDRESS,)


def test_a_pair_whose_nics_all_left_finds_its_bond_again() -> None:
    system = FakeSystem()
    standby, vf = paired(system, MAC)
    system.engine().converge()
    bond = system.kernel.named("bond0").ifindex
    system.kernel.unplug(vf)
    system.kernel.unplug(standby)
    assert system.kernel.named("bond0").address != MAC
    system.engine().converge()
    standby, vf = paired(system, MAC)
    assert system.engine().converge().error is None
    assert {system.kernel.table[nic].upper for nic in (standby, vf)} == {bond}
    assert system.kernel.named("bond0").address == MAC
    assert_on(system, vf)


def test_udev_is_given_time_to_name_a_nic_but_not_for_ever() -> None:
    system = FakeSystem()
    standby, vf = paired(system, MAC)
    system.engine().converge()
    system.kernel.unplug(vf)
    system.udev.busy.add("eth0")
    late = system.kernel.plug("eth0", MAC)
    outcome = system.engine().converge()
    assert outcome.plan.waiting == ("eth0: udev has not finished with it",)
    assert_on(system, standby)
    system.later(UDEV_GRACE_S)
    system.engine().converge()
    assert_on(system, late)


def test_a_held_pair_stays_on_the_standby_until_the_hold_ends() -> None:
    system = FakeSystem()
    standby, vf = paired(system, MAC)
    system.engine().converge()
    system.engine().converge(frozenset({MAC}))
    assert_on(system, standby)
    assert system.engine().converge(frozenset({MAC})).plan.actions == ()
    system.engine().converge()
    assert_on(system, vf)


def test_a_hold_without_a_carrier_on_the_standby_changes_nothing() -> None:
    system = FakeSystem()
    standby, vf = paired(system, MAC)
    system.engine().converge()
    system.kernel.set_carrier(standby, carrier=False)
    system.engine().converge(frozenset({MAC}))
    assert_on(system, vf)


def test_a_vlan_that_is_put_on_a_port_keeps_the_bond_in_the_agents_hands() -> None:
    system = FakeSystem()
    standby, vf = paired(system, MAC)
    system.engine().converge()
    system.kernel.add_virtual("ens2.5", MAC, "vlan", lower=standby)
    outcome = system.engine().converge(frozenset({MAC}))
    assert (outcome.error, outcome.plan.refusals) == (None, ())
    assert_on(system, standby)
    system.kernel.unplug(vf)
    returned = system.kernel.plug("ens9", MAC)
    system.engine().converge()
    assert_on(system, returned)


def test_two_pairs_get_two_bonds() -> None:
    system = FakeSystem()
    _, first = paired(system, MAC)
    _, second = paired(system, OTHER)
    system.engine().converge()
    assert_on(system, first, "bond0")
    assert_on(system, second, "bond1")


def test_a_bond_of_somebody_else_keeps_its_name_and_its_ports() -> None:
    system = FakeSystem()
    foreign = system.kernel.add_virtual("bond0", OTHER, "bond")
    _, vf = paired(system, MAC)
    system.engine().converge()
    assert system.kernel.table[foreign].alias is None
    assert_on(system, vf, "bond1")


def test_each_pair_gets_the_bond_name_and_the_options_of_the_policy() -> None:
    system = FakeSystem()
    paired(system, MAC)
    paired(system, OTHER)
    named = PairPolicy(mac=OTHER, bond_name="bond0", options=BondOptions(miimon_ms=50))
    system.engine(Policy(pairs=(named,))).converge()
    assert (system.kernel.named("bond0").address, system.kernel.named("bond1").address) == (
        OTHER,
        MAC,
    )
    states = [system.kernel.named(name).bond for name in ("bond0", "bond1")]
    assert [state.miimon_ms for state in states if state] == [50, 100]


def test_a_change_of_options_reaches_a_bond_that_is_there() -> None:
    system = FakeSystem()
    _, vf = paired(system, MAC)
    system.engine().converge()
    changed = Policy(options=BondOptions(miimon_ms=20, announcements=1))
    planned = system.engine(changed).look().plan.actions
    assert [type(action).__name__ for action in planned] == ["TuneBond"]
    outcome = system.engine(changed).converge()
    assert outcome.error is None
    state = system.kernel.named("bond0").bond
    assert state is not None
    assert (state.miimon_ms, state.announcements, state.active) == (20, 1, vf)


def test_a_nic_that_is_always_bonded_is_not_remembered_as_a_pair() -> None:
    system = FakeSystem()
    standby = system.kernel.plug("ens2", MAC, driver="virtio_net")
    system.engine(Policy(unseen=True)).converge()
    assert_on(system, standby)
    assert system.memory.load() == ()
    assert system.engine(Policy(unseen=True)).look().plan.waiting == ()
