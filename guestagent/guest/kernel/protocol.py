"""The agent's interface to the kernel, which a fake implements too.

Every call is synchronous and made from one thread. A refused request raises KernelError with the
errno, and no other exception.
"""

from __future__ import annotations

import errno
import os
from typing import Protocol

from guestagent.errors import GuestAgentError
from guestagent.guest.core.addressing import Address, Neighbour, Route, Rule, Setting
from guestagent.guest.core.link import Link
from guestagent.guest.core.policy import BondOptions


class KernelError(GuestAgentError):
    """The kernel refused a request. ``code`` is the errno."""

    def __init__(self, what: str, code: int) -> None:
        reason = f"{os.strerror(code)} ({errno.errorcode.get(code, code)})"
        super().__init__(f"{what}: {reason}", hint=_HINTS.get(code))
        self.code = code


_HINTS = {
    errno.EPERM: "run it as root, or give it CAP_NET_ADMIN",
    errno.EACCES: "run it as root, or give it CAP_NET_ADMIN",
    errno.EBUSY: "another program holds it; `guestagent status` says which pair is concerned",
}


class Kernel(Protocol):
    """Links, addresses and routes of the agent's network namespace."""

    def links(self) -> tuple[Link, ...]:
        """Return every link with its device, without addresses, routes and udev's properties."""

    def link(self, name: str) -> Link | None:
        """Return the link with this name, without its device; None without one."""

    def addresses(self, ifindex: int) -> tuple[Address, ...]:
        """Return the addresses of a link, in the kernel's order."""

    def routes(self, ifindex: int) -> tuple[Route, ...]:
        """Return the routes through a link, without those that the kernel derived itself."""

    def rules(self, name: str) -> tuple[Rule, ...]:
        """Return the rules that name a link."""

    def neighbours(self, ifindex: int) -> tuple[Neighbour, ...]:
        """Return the permanent and the proxy neighbours of a link."""

    def settings(self, name: str) -> frozenset[Setting]:
        """Return the settings of a link; those of ``default`` apply to new links."""

    def has_rp_filter(self, name: str) -> bool:
        """Whether a link may drop packets whose replies would leave through another."""

    def unmovable(self, ifindex: int) -> tuple[str, ...]:
        """Describe the parts of a link that cannot be moved to another link."""

    def tx_backlog(self, ifindex: int) -> int:
        """Return packets and bytes that are queued for transmission on a link; 0 for none."""

    def create_bond(
        self,
        name: str,
        *,
        mac: str,
        mtu: int,
        options: BondOptions,
        group: int,
        ipv6_autoconf: bool,
    ) -> None:
        """Create an active-backup bond, down and without ports.

        Without ``ipv6_autoconf`` the kernel makes no IPv6 address on it and ignores router
        advertisements. Raises KernelError with EEXIST if the name is taken, and
        SystemLacksError without the bonding module.
        """

    def delete_link(self, ifindex: int) -> None:
        """Delete a virtual link."""

    def set_alias(self, ifindex: int, alias: str) -> None:
        """Set the alias of a link and its group to 0, in one message."""

    def set_up(self, ifindex: int, *, up: bool) -> None:
        """Bring a link up or down."""

    def set_ipv6_addr_gen(self, ifindex: int, *, on: bool) -> None:
        """Have the kernel make IPv6 addresses on a link or not (addrgenmode eui64 or none)."""

    def set_upper(self, ifindex: int, upper: int | None) -> None:
        """Make a link a port of ``upper``, or of no link. EPERM if it is up."""

    def tune_bond(self, bond: int, *, miimon_ms: int, announcements: int) -> None:
        """Set the interval of a bond's port checks and the number of its announcements."""

    def set_fail_over_mac_active(self, bond: int) -> None:
        """Have a bond take the MAC of its active port and write none; refused if it has ports."""

    def set_primary(self, bond: int, port: int | None) -> None:
        """Set or clear the primary of a bond."""

    def set_all_ports_active(self, bond: int, *, enabled: bool) -> None:
        """Have a bond deliver or drop what arrives on the inactive port."""

    def add_address(self, ifindex: int, address: Address) -> None:
        """Add an address, or update it if it exists; IPv6 without DAD."""

    def delete_address(self, ifindex: int, address: Address) -> None:
        """Delete an address if it exists."""

    def put_route(self, ifindex: int, route: Route) -> None:
        """Add a route through a link, in place of the first with its destination and metric.

        A ``shadowed`` route is appended and replaces none.
        """

    def delete_route(self, ifindex: int, route: Route) -> None:
        """Delete a route if it exists."""

    def add_rule(self, rule: Rule) -> None:
        """Add a rule unless it exists already."""

    def delete_rule(self, rule: Rule) -> None:
        """Delete a rule if it exists."""

    def put_neighbour(self, ifindex: int, neighbour: Neighbour) -> None:
        """Set a permanent or a proxy neighbour on a link, in place of a known one."""

    def delete_neighbour(self, ifindex: int, neighbour: Neighbour) -> None:
        """Delete a neighbour if it exists."""

    def write_setting(self, name: str, setting: Setting) -> None:
        """Write a setting of a link."""

    def loosen_rp_filter(self, name: str) -> None:
        """Have a link accept packets whose replies leave through another, as ``all`` permits."""

    def solicit_neighbour(self, ifindex: int, family: int, address: str) -> None:
        """Make a neighbour on a link prove that it can be reached."""

    def reachable_neighbours(self, ifindex: int) -> frozenset[str]:
        """Return the addresses of the neighbours whose reachability is confirmed."""

    def close(self) -> None:
        """Close the sockets."""
