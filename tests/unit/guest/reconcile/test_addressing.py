"""All that a NIC has goes to the bond and back, or nothing does."""

from __future__ import annotations

import errno
import socket
from dataclasses import replace

import pytest

from guestagent.guest.core.addressing import (
    ACCEPT_RA,
    RP_FILTER,
    Address,
    Neighbour,
    Route,
    Rule,
    Setting,
)
from guestagent.guest.core.link import Autoconfiguration
from tests.fakes.routing import same_key
from tests.fakes.system import FakeSystem

MAC = "52:54:00:00:00:01"
ADDRESS = Address(family=socket.AF_INET, address="192.0.2.10", prefix_length=24)
RULE = Rule(family=socket.AF_INET, iif="ens2", rest="any")
NEIGHBOUR = Neighbour(
    family=socket.AF_INET, address="192.0.2.9", hardware_address="02:00:00:00:00:09"
)
DEFAULT = Route(family=socket.AF_INET, destination=None, prefix_length=0, gateway="192.0.2.1")


def in_use(system: FakeSystem) -> tuple[int, int]:
    """Plug in a NIC that has everything, and its VF."""
    kernel = system.kernel
    standby = kernel.plug("ens2", MAC, driver="virtio_net", up=True)
    kernel.owned[standby] = [ADDRESS]
    kernel.routed[standby] = [DEFAULT]
    kernel.ruled.append(RULE)
    kernel.set_neighbours[standby] = [NEIGHBOUR]
    kernel.tuned["ens2"] = {RP_FILTER: "1"}
    return standby, kernel.plug("ens3", MAC)


def assert_has_everything(system: FakeSystem, name: str, rp_filter: str = "1") -> None:
    kernel, ifindex = system.kernel, system.kernel.named(name).ifindex
    assert kernel.addresses(ifindex) == (ADDRESS,)
    assert kernel.routes(ifindex) == (DEFAULT,)
    assert kernel.ruled == [RULE.renamed("ens2", name)]
    assert kernel.neighbours(ifindex) == (NEIGHBOUR,)
    assert Setting(key=RP_FILTER, value=rp_filter) in kernel.settings(name)


def test_settings_are_read_once_the_nics_are_settled_and_defaults_once_for_all_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system = FakeSystem()
    in_use(system)
    other = system.kernel.plug("ens4", "52:54:00:00:00:02", driver="virtio_net", up=True)
    system.kernel.owned[other] = [replace(ADDRESS, address="192.0.2.11")]
    system.kernel.plug("ens5", "52:54:00:00:00:02")
    asked: list[str] = []
    settings = system.kernel.settings

    def noted(name: str) -> frozenset[Setting]:
        asked.append(name)
        return settings(name)

    monkeypatch.setattr(system.kernel, "settings", noted)
    system.udev.busy = {"ens3", "ens5"}
    outcome = system.engine().look()
    assert (outcome.plan.actions, asked) == ((), []), "udev comes first"
    system.udev.busy = set()
    system.engine().look()
    assert (asked.count("default"), set(asked)) == (1, {"default", "ens2", "ens4"})


def test_everything_that_a_nic_has_goes_to_the_bond_and_back() -> None:
    system = FakeSystem()
    standby, _ = in_use(system)
    assert system.engine().converge().error is None
    assert_has_everything(system, "bond0")
    assert not system.kernel.has_rp_filter("ens2"), "what still arrives there must not be dropped"
    system.undone.macs.add(MAC)
    for _ in range(3):
        assert system.engine().converge().error is None
        system.later(60)
    assert system.kernel.table[standby].upper is None
    assert_has_everything(system, "ens2")


@pytest.mark.parametrize(
    "method",
    [
        *("write_setting", "add_address", "put_neighbour", "put_route", "add_rule"),
        *("delete_rule", "delete_neighbour", "delete_address"),
    ],
)
def test_a_move_that_the_kernel_refuses_is_rolled_back(method: str) -> None:
    system = FakeSystem()
    standby, _ = in_use(system)
    system.kernel.refuse(method, errno.EINVAL)
    outcome = system.engine().converge()
    assert outcome.error is not None
    assert_has_everything(system, "ens2")
    assert system.kernel.table[standby].up
    assert system.engine().converge().error is None
    assert_has_everything(system, "bond0")


def test_a_nic_with_what_cannot_be_moved_is_left_alone_until_the_next_boot() -> None:
    system = FakeSystem()
    standby, vf = in_use(system)
    system.kernel.unmovable_parts[standby] = ("has an XDP program",)
    outcome = system.engine().converge()
    assert (outcome.plan.actions, outcome.plan.waiting) == ((), ())
    (refusal,) = outcome.plan.refusals
    assert refusal.reason == "ens2 is in use and has an XDP program"
    assert "reboot" in refusal.hint
    assert set(system.kernel.table) == {standby, vf}
    # Whoever attached it needs no address of the guest's.
    system.kernel.owned.clear()
    assert system.engine().converge().plan.refusals == (refusal,)
    # At boot nobody has configured it yet.
    system.kernel.set_up(standby, up=False)
    assert system.engine().converge().error is None
    state = system.kernel.named("bond0").bond
    assert state is not None
    assert state.active == vf


@pytest.mark.parametrize("refused", [None, "add_rule", "delete_address"])
def test_the_default_route_of_another_nic_stays_the_first(refused: str | None) -> None:
    system = FakeSystem()
    standby, _ = in_use(system)
    (own,) = (item for item in system.kernel.routed[standby] if item.destination is None)
    other = system.kernel.plug("ens9", "52:54:00:00:00:09", driver="virtio_net", up=True)
    gateway = replace(own, gateway="198.51.100.1")
    system.kernel.routed[other] = [gateway]
    system.kernel.places[standby, same_key(own)] = 1
    if refused is not None:
        system.kernel.refuse(refused, errno.EINVAL)
        assert system.engine().converge().error is not None
        assert system.kernel.routes(other) == (gateway,)
        assert replace(own, shadowed=True) in system.kernel.routes(standby)
    assert system.engine().converge().error is None
    assert system.kernel.routes(other) == (gateway,)
    bond = system.kernel.named("bond0").ifindex
    assert replace(own, shadowed=True) in system.kernel.routes(bond)
    assert system.kernel.routes(standby) == ()


def test_a_nic_that_was_given_another_mac_keeps_it_and_its_network() -> None:
    system = FakeSystem()
    standby, vf = in_use(system)
    own = system.kernel.table[standby]
    system.kernel.table[standby] = replace(own, address="02:aa:aa:aa:aa:aa")
    (refusal,) = system.engine().converge().plan.refusals
    assert "02:aa:aa:aa:aa:aa in place of its own" in refusal.reason
    assert set(system.kernel.table) == {standby, vf}
    assert_has_everything(system, "ens2")
    system.kernel.table[standby] = own
    assert system.engine().converge().error is None
    assert_has_everything(system, "bond0")


def test_a_nic_that_the_stack_makes_a_port_of_something_is_left_alone_at_boot_too() -> None:
    system = FakeSystem()
    nics = {system.kernel.plug("ens2", MAC, driver="virtio_net"), system.kernel.plug("ens3", MAC)}
    system.stack.conflicts["ens2"] = "is a port of br0 in /etc/network/interfaces"
    outcome = system.engine().converge()
    (refusal,) = outcome.plan.refusals
    assert "is a port of br0" in refusal.reason
    assert refusal.hint.startswith("write bond0 in place of ens2 there and reboot")
    assert set(system.kernel.table) == nics
    # The bond is there already: it is not taken apart for what a file says now.
    system.stack.conflicts.clear()
    system.engine().converge()
    system.stack.conflicts["ens2"] = "is a port of br0 in /etc/network/interfaces"
    assert system.engine().look().plan.refusals == ()


def test_a_bond_that_is_made_at_boot_has_the_settings_of_its_nic() -> None:
    system = FakeSystem()
    system.kernel.plug("ens2", MAC, driver="virtio_net")
    system.kernel.plug("ens3", MAC)
    system.kernel.tuned["ens2"] = {"ipv4/conf/arp_ignore": "1"}
    assert system.engine().converge().error is None
    assert Setting(key="ipv4/conf/arp_ignore", value="1") in system.kernel.settings("bond0")
    assert system.engine().look().plan.actions == ()


@pytest.mark.parametrize("rp_filter", ["1", "2"], ids=["strict", "loose"])
def test_the_bond_has_no_rp_filter_until_the_routes_have_moved(
    rp_filter: str,
) -> None:
    system = FakeSystem()
    _, vf = in_use(system)
    system.kernel.tuned["ens2"] = {RP_FILTER: rp_filter}
    system.kernel.set_carrier(vf, carrier=False)
    assert system.engine().converge().error is None
    assert not system.kernel.has_rp_filter("bond0")
    system.kernel.set_carrier(vf, carrier=True)
    assert system.engine().converge().error is None
    assert_has_everything(system, "bond0", rp_filter)
    assert not system.kernel.has_rp_filter("ens2"), "it has no address, and frames still come"


@pytest.mark.parametrize("wanted", ["0", "1", "2"])
def test_the_bond_accepts_router_advertisements_only_once_it_has_the_addresses(
    wanted: str,
) -> None:
    system = FakeSystem()
    _, vf = in_use(system)
    system.kernel.tuned["ens2"] = {ACCEPT_RA: wanted}
    system.kernel.set_carrier(vf, carrier=False)
    assert system.engine().converge().error is None
    assert Setting(key=ACCEPT_RA, value="0") in system.kernel.settings("bond0")
    system.kernel.set_carrier(vf, carrier=True)
    assert system.engine().converge().error is None
    assert Setting(key=ACCEPT_RA, value=wanted) in system.kernel.settings("bond0")


def test_the_bond_never_accepts_router_advertisements_where_the_stack_makes_all_addresses() -> (
    None
):
    system = FakeSystem()
    system.stack.autoconfigures = Autoconfiguration.STACK
    _, vf = in_use(system)
    system.kernel.tuned["ens2"] = {ACCEPT_RA: "1"}
    system.kernel.set_carrier(vf, carrier=True)
    assert system.engine().converge().error is None
    assert system.kernel.named("bond0").complete
    assert Setting(key=ACCEPT_RA, value="0") in system.kernel.settings("bond0")
