"""Contract of a Kernel: addressing of a NIC besides addresses and plain routes."""

from __future__ import annotations

import errno
import socket
from dataclasses import replace

from guestagent.guest.core.addressing import RP_FILTER, Address, Neighbour, Route, Setting
from guestagent.guest.kernel.protocol import Kernel
from tests.contract.kernel_ground import (
    IPV4,
    IPV6,
    OTHER_MAC,
    Ground,
    active,
    bonded,
    claim,
    eventually,
    in_use,
    refused,
)

WITH_PEER = Address(family=socket.AF_INET, address="192.0.2.1", prefix_length=32, peer="192.0.2.2")
STATIC = Neighbour(family=socket.AF_INET, address="192.0.2.77", hardware_address=OTHER_MAC)
STATIC6 = Neighbour(family=socket.AF_INET6, address="2001:db8:5::77", hardware_address=OTHER_MAC)
PROXY = Neighbour(family=socket.AF_INET, address="192.0.2.78", hardware_address="", proxy=True)
STRICT = Setting(key=RP_FILTER, value="1")


@claim
def an_address_keeps_its_metric_and_its_label(kernel: Kernel, ground: Ground) -> None:
    port = in_use(kernel, ground, addresses=())
    given = replace(IPV4, metric=77, label="ens1:1")
    for address in (given, replace(IPV6, metric=88)):
        kernel.add_address(port, address)
    found = {item.family: item for item in kernel.addresses(port)}
    assert (found[socket.AF_INET].metric, found[socket.AF_INET].label) == (77, "ens1:1")
    assert (found[socket.AF_INET6].metric, found[socket.AF_INET6].label) == (88, None)


@claim
def an_address_with_a_peer_is_the_same_elsewhere(kernel: Kernel, ground: Ground) -> None:
    port, other = in_use(kernel, ground, addresses=()), in_use(kernel, ground, "ens2", ())
    kernel.add_address(
        port,
        Address(family=socket.AF_INET, address="192.0.2.1", prefix_length=32, peer="192.0.2.2"),
    )
    (found,) = kernel.addresses(port)
    kernel.add_address(other, found)
    kernel.delete_address(port, found)
    assert kernel.addresses(port) == ()
    assert kernel.addresses(other) == (found,)


@claim
def routes_of_any_table_and_of_two_services_are_kept_apart(kernel: Kernel, ground: Ground) -> None:
    port = in_use(kernel, ground)
    plain = Route(
        family=socket.AF_INET,
        destination="203.0.113.0",
        prefix_length=24,
        gateway="192.0.2.1",
        table=1000,
        metric=50,
    )
    for route in (plain, replace(plain, tos=0x10)):
        kernel.put_route(port, route)
    assert sorted(kernel.routes(port), key=lambda route: route.tos) == [
        plain,
        replace(plain, tos=0x10),
    ]
    kernel.delete_route(port, plain)
    assert kernel.routes(port) == (replace(plain, tos=0x10),)


@claim
def a_rule_that_names_a_link_can_name_another(kernel: Kernel, ground: Ground) -> None:
    ground.plug("ens1")
    ground.add_rule("ens1")
    (rule,) = kernel.rules("ens1")
    assert (rule.iif, rule.oif) == ("ens1", None)
    moved = rule.renamed("ens1", "bond0")
    for _ in range(2):
        kernel.add_rule(moved)
    for _ in range(2):
        kernel.delete_rule(rule)
    assert kernel.rules("ens1") == ()
    assert kernel.rules("bond0") == (moved,)


@claim
def permanent_and_proxy_neighbours_alone_are_listed(kernel: Kernel, ground: Ground) -> None:
    port = in_use(kernel, ground)
    known = {STATIC, STATIC6, PROXY}
    for neighbour in known:
        kernel.put_neighbour(port, neighbour)
    kernel.solicit_neighbour(port, socket.AF_INET, "192.0.2.1")
    assert set(kernel.neighbours(port)) == known
    for _ in range(2):
        for neighbour in known:
            kernel.delete_neighbour(port, neighbour)
    assert kernel.neighbours(port) == ()


@claim
def a_bond_keeps_its_neighbours_when_its_active_port_changes(
    kernel: Kernel, ground: Ground
) -> None:
    bond, _, second = bonded(kernel, ground)
    kernel.put_neighbour(bond, STATIC)
    kernel.set_primary(bond, second)
    eventually(ground, lambda: active(kernel, bond) == second)
    assert kernel.neighbours(bond) == (STATIC,)


@claim
def a_setting_is_the_links_own(kernel: Kernel, ground: Ground) -> None:
    ground.plug("ens1")
    ground.plug("ens2")
    kernel.write_setting("ens1", STRICT)
    assert STRICT in kernel.settings("ens1")
    assert STRICT not in kernel.settings("ens2")
    assert STRICT not in kernel.settings("default")
    assert kernel.has_rp_filter("ens1")
    kernel.write_setting("ens2", replace(STRICT, value="0"))
    assert not kernel.has_rp_filter("ens2")
    kernel.write_setting("ens1", replace(STRICT, value="2"))
    assert kernel.has_rp_filter("ens1"), "a link without an address drops it all the same"
    kernel.loosen_rp_filter("ens1")
    assert not kernel.has_rp_filter("ens1")
    with refused(errno.ENOENT):
        kernel.write_setting("ens9", STRICT)


@claim
def a_new_link_has_the_settings_of_the_default(kernel: Kernel, ground: Ground) -> None:
    ground.plug("ens1")
    default = kernel.settings("default")
    # Only the initial network namespace has defaults for neighbours.
    keys = {setting.key for setting in default}
    assert {setting for setting in kernel.settings("ens1") if setting.key in keys} == default


@claim
def unmovable_parts_of_a_link_are_described(kernel: Kernel, ground: Ground) -> None:
    port, other = in_use(kernel, ground), in_use(kernel, ground, "ens2", ())
    assert kernel.unmovable(port) == ()
    ground.attach(port)
    assert kernel.unmovable(port) == ("has the queueing discipline pfifo",)
    assert kernel.unmovable(other) == ()


@claim
def the_tx_backlog_of_a_nic_is_reported(kernel: Kernel, ground: Ground) -> None:
    port, other = in_use(kernel, ground), in_use(kernel, ground, "ens2", ())
    eventually(ground, lambda: kernel.tx_backlog(port) == 0)
    ground.hold_back(port)
    assert kernel.tx_backlog(port) > 0
    assert kernel.tx_backlog(other) == 0
    ground.unplug(port)
    assert kernel.tx_backlog(port) == 0
