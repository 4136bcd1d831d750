"""Contract of a Kernel: links, addresses and routes."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from dataclasses import replace

from guestagent.guest.core.addressing import Address, Route
from guestagent.guest.kernel.protocol import Kernel
from tests.contract.kernel_ground import (
    DEFAULT4,
    DEFAULT6,
    IPV4,
    IPV6,
    TENTATIVE_OR_REFUSED,
    Ground,
    addresses,
    claim,
    eventually,
    gateways,
    get,
    in_use,
    make_bond,
    refused,
)

OTHER_ADDRESSES = (
    Address(family=socket.AF_INET, address="198.51.100.10", prefix_length=24),
    Address(family=socket.AF_INET6, address="2001:db8:6::a", prefix_length=64),
)
OTHER_DEFAULT4 = Route(
    family=socket.AF_INET, destination=None, prefix_length=0, gateway="198.51.100.1"
)
OTHER_DEFAULT6 = Route(
    family=socket.AF_INET6, destination=None, prefix_length=0, gateway="2001:db8:6::1", metric=1024
)


@claim
def a_request_for_a_link_that_is_gone_is_refused(kernel: Kernel, ground: Ground) -> None:
    bond, port = make_bond(kernel).ifindex, ground.plug("ens1")
    ground.unplug(port)
    requests: list[Callable[[], None]] = [
        lambda: kernel.set_up(port, up=True),
        lambda: kernel.set_ipv6_addr_gen(port, on=False),
        lambda: kernel.set_upper(port, bond),
        lambda: kernel.delete_link(port),
        lambda: kernel.add_address(port, IPV4),
    ]
    for request in requests:
        with refused(errno.ENODEV):
            request()


@claim
def ipv6_addr_gen_of_a_link_can_be_switched_off(kernel: Kernel, ground: Ground) -> None:
    port = ground.plug("ens1")
    for on in (False, True):
        kernel.set_ipv6_addr_gen(port, on=on)
        assert get(kernel, port).ipv6_addr_gen is on
    kernel.set_ipv6_addr_gen(port, on=False)
    kernel.set_up(port, up=True)
    eventually(ground, lambda: get(kernel, port).carrier)
    assert kernel.addresses(port) == ()


@claim
def a_link_that_goes_down_loses_its_routes_and_its_ipv6_addresses(
    kernel: Kernel, ground: Ground
) -> None:
    port = in_use(kernel, ground)
    kernel.put_route(port, DEFAULT4)
    kernel.put_route(port, DEFAULT6)
    kernel.set_up(port, up=False)
    assert addresses(kernel, port) == [IPV4.address]
    assert kernel.routes(port) == ()


@claim
def an_address_is_there_until_it_is_deleted(kernel: Kernel, ground: Ground) -> None:
    port = in_use(kernel, ground)
    assert addresses(kernel, port) == [IPV4.address, IPV6.address]
    for _ in range(2):
        kernel.delete_address(port, IPV4)
        kernel.delete_address(port, IPV6)
        assert addresses(kernel, port) == []


@claim
def an_address_that_is_there_is_updated(kernel: Kernel, ground: Ground) -> None:
    port = ground.plug("ens1")
    kernel.set_ipv6_addr_gen(port, on=False)
    kernel.set_up(port, up=True)
    kernel.add_address(port, IPV4)
    lease = Address(
        family=socket.AF_INET,
        address=IPV4.address,
        prefix_length=24,
        valid_s=3600,
        preferred_s=1800,
    )
    kernel.add_address(port, lease)
    (found,) = kernel.addresses(port)
    assert found.valid_s is not None
    assert 3500 < found.valid_s <= 3600


@claim
def an_ipv6_address_is_usable_at_once(kernel: Kernel, ground: Ground) -> None:
    port = in_use(kernel, ground)
    (found,) = (item for item in kernel.addresses(port) if item.family == socket.AF_INET6)
    assert not found.flags & TENTATIVE_OR_REFUSED


@claim
def an_ipv6_address_that_was_refused_is_made_usable(kernel: Kernel, ground: Ground) -> None:
    port = ground.plug("ens1")
    kernel.set_ipv6_addr_gen(port, on=False)
    kernel.set_up(port, up=True)
    ground.refuse_address(port, IPV6)
    kernel.add_address(port, IPV6)
    (found,) = kernel.addresses(port)
    assert (found.address, found.flags & TENTATIVE_OR_REFUSED) == (IPV6.address, 0)


@claim
def a_route_of_ipv4_moves_when_it_is_put_elsewhere(kernel: Kernel, ground: Ground) -> None:
    nic, other = in_use(kernel, ground), in_use(kernel, ground, "ens2", OTHER_ADDRESSES)
    kernel.put_route(nic, DEFAULT4)
    assert gateways(kernel, nic) == [DEFAULT4.gateway]
    kernel.put_route(other, OTHER_DEFAULT4)
    assert gateways(kernel, nic) == []
    assert gateways(kernel, other) == [OTHER_DEFAULT4.gateway]


@claim
def a_route_of_ipv4_that_is_behind_anothers_moves_without_it(
    kernel: Kernel, ground: Ground
) -> None:
    first = in_use(kernel, ground, "ens2", OTHER_ADDRESSES)
    kernel.put_route(first, OTHER_DEFAULT4)
    nic = in_use(kernel, ground)
    kernel.put_route(nic, replace(DEFAULT4, shadowed=True))
    assert [route.shadowed for route in kernel.routes(first)] == [False]
    (moved,) = kernel.routes(nic)
    assert moved.shadowed
    target = in_use(kernel, ground, "ens3", (IPV4,))
    for _ in range(2):
        kernel.put_route(target, moved)
    assert gateways(kernel, nic) == gateways(kernel, target) == [DEFAULT4.gateway]
    kernel.delete_route(nic, moved)
    assert gateways(kernel, nic) == []
    assert [route.shadowed for route in kernel.routes(target)] == [True]
    assert gateways(kernel, first) == [OTHER_DEFAULT4.gateway]
    # The first one may go elsewhere without the other.
    (ahead,) = kernel.routes(first)
    elsewhere = in_use(kernel, ground, "ens4", OTHER_ADDRESSES[:1])
    kernel.put_route(elsewhere, ahead)
    assert gateways(kernel, first) == []
    assert gateways(kernel, elsewhere) == [OTHER_DEFAULT4.gateway]
    assert gateways(kernel, target) == [DEFAULT4.gateway]


@claim
def a_route_of_ipv6_is_there_twice_until_one_is_deleted(kernel: Kernel, ground: Ground) -> None:
    nic, other = in_use(kernel, ground), in_use(kernel, ground, "ens2", OTHER_ADDRESSES)
    for _ in range(2):
        kernel.put_route(nic, DEFAULT6)
        kernel.put_route(other, OTHER_DEFAULT6)
    # Together they have two next hops; what leaves through one link alone is reported.
    assert gateways(kernel, nic) == gateways(kernel, other) == []
    for _ in range(2):
        kernel.delete_route(nic, DEFAULT6)
    assert gateways(kernel, nic) == []
    assert gateways(kernel, other) == [OTHER_DEFAULT6.gateway]


@claim
def a_route_of_a_router_keeps_its_time_and_its_rank(kernel: Kernel, ground: Ground) -> None:
    nic = in_use(kernel, ground)
    kernel.put_route(nic, replace(DEFAULT6, expires_s=600, preference=1, protocol=9))
    (found,) = [route for route in kernel.routes(nic) if route.gateway == DEFAULT6.gateway]
    assert (found.preference, found.protocol) == (1, 9)
    assert found.expires_s is not None
    assert 500 < found.expires_s <= 600


@claim
def a_route_needs_a_link_that_is_up(kernel: Kernel, ground: Ground) -> None:
    port = ground.plug("ens1")
    kernel.add_address(port, IPV4)
    with refused(errno.ENETDOWN, errno.ENETUNREACH):
        kernel.put_route(port, DEFAULT4)
    assert kernel.routes(port) == ()


@claim
def a_gateway_must_be_reachable_through_the_link(kernel: Kernel, ground: Ground) -> None:
    port = ground.plug("ens1")
    kernel.set_up(port, up=True)
    with refused(errno.ENETUNREACH):
        kernel.put_route(port, DEFAULT4)
