"""Ground of the claims about a Kernel: their fixtures and helpers.

A claim is a function of a kernel without links of its own making and of the
ground, which makes the NICs. It uses plain assertions and nothing of a test
framework, because it also runs inside a guest (``kernel_in_guest.py``).
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from guestagent.guest.core.addressing import Address, Route
from guestagent.guest.core.link import BondState, Link
from guestagent.guest.core.policy import BondOptions
from guestagent.guest.kernel.protocol import Kernel, KernelError

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
    """Events that happen to a guest from outside."""

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

    def add_rule(self, name: str) -> None:
        """Have a rule for what comes in through a link."""

    def hold_back(self, ifindex: int) -> None:
        """Have a packet on a NIC that is up which it does not send for a while."""

    def attach(self, ifindex: int) -> None:
        """Have something on a NIC that cannot be moved to another."""


Claim = Callable[[Kernel, Ground], None]
CLAIMS: dict[str, Claim] = {}


def claim(function: Claim) -> Claim:
    """Count a function among the claims."""
    CLAIMS[function.__name__] = function
    return function


def make_bond(kernel: Kernel, *, mtu: int = 1500) -> Link:
    """Make bond0."""
    kernel.create_bond(
        "bond0",
        mac=MAC,
        mtu=mtu,
        options=BondOptions(miimon_ms=20),
        group=GROUP,
        ipv6_autoconf=True,
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
    kernel.set_ipv6_addr_gen(port, on=False)
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
