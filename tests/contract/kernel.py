"""What every Kernel does: claims that hold for the fake one and for the real one.

A claim is a function of a kernel without links of its own making and of the
ground it stands on, which makes the NICs. It uses plain assertions and nothing
of a test framework, because it also runs inside a guest (``in_guest.py``).
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from guestagent.guest.kernel.protocol import Kernel, KernelError
from guestagent.guest.model import Address, BondOptions, BondState, Link, Route

MAC = "52:54:00:00:00:01"
OTHER_MAC = "52:54:00:00:00:02"
GROUP = 0x67610001
IPV4 = Address(family=socket.AF_INET, address="192.0.2.10", prefix_length=24)
IPV6 = Address(family=socket.AF_INET6, address="2001:db8:5::a", prefix_length=64)
DEFAULT4 = Route(family=socket.AF_INET, destination=None, prefix_length=0, gateway="192.0.2.1")
DEFAULT6 = Route(
    family=socket.AF_INET6, destination=None, prefix_length=0, gateway="2001:db8:5::1", metric=1024
)
TENTATIVE_OR_REFUSED = 0x40 | 0x08  # IFA_F_TENTATIVE, IFA_F_DADFAILED


class Ground(Protocol):
    """What happens to a guest from outside."""

    patience_s: float
    """How long the kernel may take to notice."""

    def plug(self, name: str) -> int:
        """Plug in a NIC with a cable, down, with ``MAC``; return its ifindex."""

    def unplug(self, ifindex: int) -> None:
        """Pull a NIC."""

    def rename(self, ifindex: int, name: str) -> None:
        """Rename a NIC, as udev does."""

    def set_carrier(self, ifindex: int, *, carrier: bool) -> None:
        """Pull or insert the cable of a NIC that is up."""

    def refuse_address(self, ifindex: int, address: Address) -> None:
        """Have an address on a NIC that somebody else on the wire already has."""


Claim = Callable[[Kernel, Ground], None]
CLAIMS: dict[str, Claim] = {}


def claim(function: Claim) -> Claim:
    """Count a function among the claims."""
    CLAIMS[function.__name__] = function
    return function


# bonds


@claim
def a_bond_is_made_down_as_it_was_ordered(kernel: Kernel, _: Ground) -> None:
    options = BondOptions(miimon_ms=50, fail_over_mac=1)
    kernel.create_bond("bond7", mac=MAC, mtu=1400, options=options, group=GROUP, quiet=True)
    bond = named(kernel, "bond7")
    assert (bond.kind, bond.address, bond.mtu, bond.group) == ("bond", MAC, 1400, GROUP)
    assert (bond.up, bond.carrier, bond.quiet, bond.alias) == (False, False, True, None)
    assert (bond.ours, bond.complete, bond.physical) == (True, False, False)
    assert bond.bond is not None
    assert (bond.bond.mode, bond.bond.miimon_ms) == ("active-backup", 50)
    assert (bond.bond.fail_over_mac, bond.bond.primary_reselect) == (1, 0)
    assert (bond.bond.active, bond.bond.primary, bond.bond.all_ports_active) == (None, None, False)


@claim
def a_bond_is_not_quiet_unless_that_is_ordered(kernel: Kernel, _: Ground) -> None:
    assert not make_bond(kernel).quiet


@claim
def a_name_that_is_taken_is_refused(kernel: Kernel, _: Ground) -> None:
    make_bond(kernel)
    with refused(errno.EEXIST):
        kernel.create_bond("bond0", mac=MAC, mtu=1500, options=BondOptions(), group=0, quiet=False)


@claim
def the_alias_ends_the_birth_of_a_bond(kernel: Kernel, _: Ground) -> None:
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
def what_arrives_on_the_inactive_port_can_be_let_in(kernel: Kernel, _: Ground) -> None:
    bond = make_bond(kernel).ifindex
    for enabled in (True, False):
        kernel.set_all_ports_active(bond, enabled=enabled)
        assert state(kernel, bond).all_ports_active is enabled


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


# links


@claim
def a_link_that_is_gone_is_said_to_be_gone(kernel: Kernel, ground: Ground) -> None:
    bond, port = make_bond(kernel).ifindex, ground.plug("ens1")
    ground.unplug(port)
    requests: list[Callable[[], None]] = [
        lambda: kernel.set_up(port, up=True),
        lambda: kernel.set_quiet(port, quiet=True),
        lambda: kernel.set_upper(port, bond),
        lambda: kernel.delete_link(port),
        lambda: kernel.add_address(port, IPV4),
    ]
    for request in requests:
        with refused(errno.ENODEV):
            request()


@claim
def a_link_can_be_kept_quiet(kernel: Kernel, ground: Ground) -> None:
    port = ground.plug("ens1")
    for quiet in (True, False):
        kernel.set_quiet(port, quiet=quiet)
        assert get(kernel, port).quiet is quiet
    kernel.set_quiet(port, quiet=True)
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


# addresses and routes


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
    kernel.set_quiet(port, quiet=True)
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
    assert 3590 <= found.valid_s <= 3600


@claim
def an_ipv6_address_is_usable_at_once(kernel: Kernel, ground: Ground) -> None:
    port = in_use(kernel, ground)
    (found,) = (item for item in kernel.addresses(port) if item.family == socket.AF_INET6)
    assert not found.flags & TENTATIVE_OR_REFUSED


@claim
def an_ipv6_address_that_was_refused_is_made_usable(kernel: Kernel, ground: Ground) -> None:
    port = ground.plug("ens1")
    kernel.set_quiet(port, quiet=True)
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


def make_bond(kernel: Kernel, *, mtu: int = 1500) -> Link:
    """Make bond0."""
    kernel.create_bond(
        "bond0", mac=MAC, mtu=mtu, options=BondOptions(miimon_ms=20), group=GROUP, quiet=False
    )
    return named(kernel, "bond0")


def bonded(kernel: Kernel, ground: Ground) -> tuple[int, int, int]:
    """Make a bond that is up with ports ens1, the active one, and ens2; return the three."""
    bond = make_bond(kernel).ifindex
    kernel.set_up(bond, up=True)
    first, second = ground.plug("ens1"), ground.plug("ens2")
    kernel.set_upper(first, bond)
    eventually(ground, lambda: active(kernel, bond) == first)
    kernel.set_upper(second, bond)
    # The bond sees the carrier of a port later than the port does.
    kernel.set_primary(bond, second)
    eventually(ground, lambda: active(kernel, bond) == second)
    kernel.set_primary(bond, None)
    eventually(ground, lambda: active(kernel, bond) == first)
    return bond, first, second


def in_use(
    kernel: Kernel,
    ground: Ground,
    name: str = "ens1",
    addresses: tuple[Address, ...] = (IPV4, IPV6),
) -> int:
    """Plug a NIC in, bring it up with addresses, and return it."""
    port = ground.plug(name)
    kernel.set_quiet(port, quiet=True)
    kernel.set_up(port, up=True)
    for address in addresses:
        kernel.add_address(port, address)
    return port


def named(kernel: Kernel, name: str) -> Link:
    """Return the link of a name."""
    return next(link for link in kernel.links() if link.name == name)


def get(kernel: Kernel, ifindex: int) -> Link:
    """Return the link of an ifindex."""
    return next(link for link in kernel.links() if link.ifindex == ifindex)


def state(kernel: Kernel, bond: int) -> BondState:
    """Return the state of a bond."""
    found = get(kernel, bond).bond
    assert found is not None
    return found


def active(kernel: Kernel, bond: int) -> int | None:
    """Return the active port of a bond."""
    return state(kernel, bond).active


def primary(kernel: Kernel, bond: int) -> int | None:
    """Return the primary of a bond."""
    return state(kernel, bond).primary


def addresses(kernel: Kernel, ifindex: int) -> list[str]:
    """Return the addresses of a link, IPv4 first."""
    found = ((item.family, item.address) for item in kernel.addresses(ifindex))
    return [address for _, address in sorted(found)]


def gateways(kernel: Kernel, ifindex: int) -> list[str | None]:
    """Return the gateways of the routes through a link."""
    return [route.gateway for route in kernel.routes(ifindex)]


def eventually(ground: Ground, condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; the fake kernel is never waited for."""
    end = time.monotonic() + ground.patience_s
    while not condition():
        assert time.monotonic() < end, "it did not become so"
        time.sleep(0.01)  # there is no event to wait for here


@contextmanager
def refused(*codes: int) -> Iterator[None]:
    """Hold that a request is refused with one of these errnos."""
    try:
        yield
    except KernelError as error:
        assert error.code in codes, f"refused with {errno.errorcode[error.code]}: {error}"  # noqa: PT017
        return
    raise AssertionError("it was not refused")
