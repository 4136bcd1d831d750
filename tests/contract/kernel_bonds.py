"""Contract of a Kernel: bonds and their ports."""

from __future__ import annotations

import errno

from guestagent.guest.core.addressing import ACCEPT_RA, Setting
from guestagent.guest.core.policy import FAIL_OVER_MAC_ACTIVE, FAIL_OVER_MAC_NONE, BondOptions
from guestagent.guest.kernel.protocol import Kernel
from tests.contract.kernel_ground import (
    GROUP,
    MAC,
    Ground,
    active,
    bonded,
    claim,
    eventually,
    get,
    make_bond,
    named,
    primary,
    refused,
    state,
)


@claim
def a_bond_is_created_down_with_its_options(kernel: Kernel, _: Ground) -> None:
    options = BondOptions(miimon_ms=50, fail_over_mac=1)
    kernel.create_bond(
        "bond7", mac=MAC, mtu=1400, options=options, group=GROUP, ipv6_autoconf=False
    )
    bond = named(kernel, "bond7")
    assert (bond.kind, bond.address, bond.mtu, bond.group) == ("bond", MAC, 1400, GROUP)
    assert (bond.up, bond.carrier, bond.ipv6_addr_gen, bond.alias) == (False, False, False, None)
    assert (bond.ours, bond.complete, bond.physical) == (True, False, False)
    assert bond.bond is not None
    assert (bond.bond.mode, bond.bond.miimon_ms) == ("active-backup", 50)
    assert (bond.bond.fail_over_mac, bond.bond.primary_reselect) == (1, 0)
    assert (bond.bond.active, bond.bond.primary, bond.bond.all_ports_active) == (None, None, False)
    assert Setting(key=ACCEPT_RA, value="0") in kernel.settings("bond7")


@claim
def a_bond_has_ipv6_addr_gen_if_asked_to(kernel: Kernel, _: Ground) -> None:
    assert make_bond(kernel).ipv6_addr_gen
    assert Setting(key=ACCEPT_RA, value="0") not in kernel.settings("bond0")


@claim
def a_name_that_is_taken_is_refused(kernel: Kernel, _: Ground) -> None:
    make_bond(kernel)
    with refused(errno.EEXIST):
        kernel.create_bond(
            "bond0", mac=MAC, mtu=1500, options=BondOptions(), group=0, ipv6_autoconf=True
        )


@claim
def the_alias_replaces_the_group_of_a_new_bond(kernel: Kernel, _: Ground) -> None:
    bond = make_bond(kernel)
    kernel.set_alias(bond.ifindex, f"guestagent: pair {MAC}")
    bond = named(kernel, "bond0")
    assert (bond.alias, bond.group) == (f"guestagent: pair {MAC}", 0)
    assert bond.complete


@claim
def a_port_must_be_down_to_join(kernel: Kernel, ground: Ground) -> None:
    bond, port = make_bond(kernel), ground.plug("ens1")
    kernel.set_up(port, up=True)
    with refused(errno.EPERM):
        kernel.set_upper(port, bond.ifindex)
    assert get(kernel, port).upper is None


@claim
def a_bond_brings_its_port_up_and_gives_it_its_mtu(kernel: Kernel, ground: Ground) -> None:
    bond, port = make_bond(kernel, mtu=1400), ground.plug("ens1")
    kernel.set_upper(port, bond.ifindex)
    link = get(kernel, port)
    assert (link.upper, link.up, link.mtu) == (bond.ifindex, True, 1400)


@claim
def a_released_port_is_down_and_has_its_own_mtu(kernel: Kernel, ground: Ground) -> None:
    bond, port = make_bond(kernel, mtu=1400), ground.plug("ens1")
    kernel.set_upper(port, bond.ifindex)
    kernel.set_upper(port, None)
    link = get(kernel, port)
    assert (link.upper, link.up, link.mtu) == (None, False, 1500)


@claim
def a_bond_has_a_carrier_while_it_is_up_and_a_port_has_one(kernel: Kernel, ground: Ground) -> None:
    bond, port = make_bond(kernel), ground.plug("ens1")
    kernel.set_up(bond.ifindex, up=True)
    assert not get(kernel, bond.ifindex).carrier
    kernel.set_upper(port, bond.ifindex)
    eventually(ground, lambda: get(kernel, bond.ifindex).carrier)
    ground.set_carrier(port, carrier=False)
    eventually(ground, lambda: not get(kernel, bond.ifindex).carrier)
    assert get(kernel, port).up


@claim
def a_nic_that_is_down_has_no_carrier(kernel: Kernel, ground: Ground) -> None:
    port = ground.plug("ens1")
    assert not get(kernel, port).carrier
    kernel.set_up(port, up=True)
    eventually(ground, lambda: get(kernel, port).carrier)


@claim
def the_first_port_is_active_and_the_primary_takes_over(kernel: Kernel, ground: Ground) -> None:
    bond, first, second = bonded(kernel, ground)
    assert active(kernel, bond) == first
    kernel.set_primary(bond, second)
    eventually(ground, lambda: active(kernel, bond) == second)
    assert primary(kernel, bond) == second


@claim
def without_a_primary_the_port_that_joined_first_is_chosen(kernel: Kernel, ground: Ground) -> None:
    bond, first, second = bonded(kernel, ground)
    kernel.set_primary(bond, second)
    eventually(ground, lambda: active(kernel, bond) == second)
    kernel.set_primary(bond, None)
    assert (primary(kernel, bond), active(kernel, bond)) == (None, first)


@claim
def a_primary_without_a_carrier_is_not_active(kernel: Kernel, ground: Ground) -> None:
    bond, first, second = bonded(kernel, ground)
    ground.set_carrier(second, carrier=False)
    eventually(ground, lambda: not get(kernel, second).carrier)
    kernel.set_primary(bond, second)
    eventually(ground, lambda: active(kernel, bond) == first)
    ground.set_carrier(second, carrier=True)
    eventually(ground, lambda: active(kernel, bond) == second)


@claim
def the_other_port_takes_over_when_the_active_one_loses_its_carrier(
    kernel: Kernel, ground: Ground
) -> None:
    bond, first, second = bonded(kernel, ground)
    kernel.set_primary(bond, second)
    ground.set_carrier(second, carrier=False)
    eventually(ground, lambda: active(kernel, bond) == first)
    assert primary(kernel, bond) == second
    ground.set_carrier(second, carrier=True)
    eventually(ground, lambda: active(kernel, bond) == second)


@claim
def the_other_port_takes_over_when_the_active_one_is_pulled(
    kernel: Kernel, ground: Ground
) -> None:
    bond, first, second = bonded(kernel, ground)
    kernel.set_primary(bond, second)
    ground.unplug(second)
    assert (primary(kernel, bond), active(kernel, bond)) == (None, first)


@claim
def a_primary_is_a_name(kernel: Kernel, ground: Ground) -> None:
    bond, first, second = bonded(kernel, ground)
    kernel.set_primary(bond, second)
    ground.unplug(second)
    again = ground.plug("ens3")
    kernel.set_upper(again, bond)
    assert (primary(kernel, bond), active(kernel, bond)) == (None, first)
    ground.unplug(again)
    again = ground.plug("ens2")
    kernel.set_upper(again, bond)
    eventually(ground, lambda: active(kernel, bond) == again)
    assert primary(kernel, bond) == again
    ground.rename(again, "ens3")
    assert primary(kernel, bond) is None


@claim
def all_ports_of_a_bond_can_be_made_active(kernel: Kernel, _: Ground) -> None:
    bond = make_bond(kernel).ifindex
    for enabled in (True, False):
        kernel.set_all_ports_active(bond, enabled=enabled)
        assert state(kernel, bond).all_ports_active is enabled


@claim
def a_bond_can_be_tuned_while_it_has_ports(kernel: Kernel, ground: Ground) -> None:
    bond, first, _ = bonded(kernel, ground)
    kernel.tune_bond(bond, miimon_ms=250, announcements=7)
    assert (state(kernel, bond).miimon_ms, state(kernel, bond).announcements) == (250, 7)
    assert active(kernel, bond) == first


@claim
def fail_over_mac_can_be_set_while_a_bond_has_no_port(kernel: Kernel, ground: Ground) -> None:
    bond, port = make_bond(kernel).ifindex, ground.plug("ens1")
    assert state(kernel, bond).fail_over_mac == FAIL_OVER_MAC_NONE
    kernel.set_fail_over_mac_active(bond)
    assert state(kernel, bond).fail_over_mac == FAIL_OVER_MAC_ACTIVE
    kernel.set_upper(port, bond)
    with refused(errno.ENOTEMPTY):
        kernel.set_fail_over_mac_active(bond)


@claim
def a_bond_whose_last_port_leaves_has_another_mac(kernel: Kernel, ground: Ground) -> None:
    bond, port = make_bond(kernel).ifindex, ground.plug("ens1")
    kernel.set_upper(port, bond)
    kernel.set_upper(port, None)
    assert get(kernel, bond).address != MAC
    kernel.set_upper(port, bond)
    assert get(kernel, bond).address == MAC


@claim
def a_deleted_bond_releases_its_ports(kernel: Kernel, ground: Ground) -> None:
    bond, first, _ = bonded(kernel, ground)
    kernel.delete_link(bond)
    assert (get(kernel, first).upper, get(kernel, first).up) == (None, False)
    assert all(link.ifindex != bond for link in kernel.links())
