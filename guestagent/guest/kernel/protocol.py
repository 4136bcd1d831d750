"""What the agent asks of the kernel: the narrow border that a fake can stand behind.

Every call is synchronous and made from one thread. A refused request raises
KernelError with the errno; nothing else crosses the border.
"""

from __future__ import annotations

import errno
import os
from typing import Protocol

from guestagent.errors import GuestAgentError
from guestagent.guest.core.model import Address, BondOptions, Link, Neighbour, Route, Rule, Setting


class KernelError(GuestAgentError):
    """The kernel refused a request. ``code`` is the errno."""

    def __init__(self, what: str, code: int, *, detail: str | None = None) -> None:
        said = f"{os.strerror(code)} ({errno.errorcode.get(code, code)})"
        super().__init__(f"{what}: {said}{': ' + detail if detail else ''}", hint=_HINTS.get(code))
        self.code = code


_HINTS = {
    errno.EPERM: "run it as root, or give it CAP_NET_ADMIN",
    errno.EACCES: "run it as root, or give it CAP_NET_ADMIN",
    errno.EBUSY: "another program holds it; `guestagent status` says which pair is concerned",
}


class Kernel(Protocol):
    """Links, addresses and routes of the network namespace the agent lives in."""

    def links(self) -> tuple[Link, ...]:
        """Return every link, without addresses and routes; udev's word is not in it."""

    def link(self, name: str) -> Link | None:
        """Return the link of that name, without what sysfs says of it; None without one."""

    def addresses(self, ifindex: int) -> tuple[Address, ...]:
        """Return the addresses of a link, in the kernel's order."""

    def routes(self, ifindex: int) -> tuple[Route, ...]:
        """Return the routes through a link that the kernel did not make by itself."""

    def rules(self, name: str) -> tuple[Rule, ...]:
        """Return the rules that name a link."""

    def neighbours(self, ifindex: int) -> tuple[Neighbour, ...]:
        """Return the neighbours of a link that somebody set, and those it answers for."""

    def settings(self, name: str) -> frozenset[Setting]:
        """Return the settings of a link, or those that a new link gets for ``default``."""

    def is_filtering(self, name: str) -> bool:
        """Whether a link may drop what would not be answered through it (rp_filter)."""

    def obstacles(self, ifindex: int) -> tuple[str, ...]:
        """Return what a link has that cannot be moved to another, in words."""

    def unsent(self, ifindex: int) -> int:
        """Return how much a link holds of what it was given to send: 0 is nothing."""

    def create_bond(
        self, name: str, *, mac: str, mtu: int, options: BondOptions, group: int, quiet: bool
    ) -> None:
        """Create an active-backup bond, down and without ports.

        ``quiet``: the kernel makes no IPv6 address on it, and takes no router advertisements.
        EEXIST when the name is taken; SystemLacksError without the bonding module.
        """

    def delete_link(self, ifindex: int) -> None:
        """Delete a virtual link."""

    def set_alias(self, ifindex: int, alias: str) -> None:
        """Set the alias and return the link to group 0, in one message."""

    def set_up(self, ifindex: int, *, up: bool) -> None:
        """Bring a link up or down."""

    def set_quiet(self, ifindex: int, *, quiet: bool) -> None:
        """Keep the kernel from making IPv6 addresses on a link (addrgenmode none), or let it."""

    def set_upper(self, ifindex: int, upper: int | None) -> None:
        """Make a link a port of ``upper``, or release it. EPERM when it is up."""

    def tune_bond(self, bond: int, *, miimon_ms: int, announcements: int) -> None:
        """Set how often a bond looks at its ports and how often it announces a change."""

    def write_no_mac(self, bond: int) -> None:
        """Have a bond take the MAC of its active port and write none; refused if it has ports."""

    def set_primary(self, bond: int, port: int | None) -> None:
        """Set or clear the primary of a bond."""

    def set_all_ports_active(self, bond: int, *, enabled: bool) -> None:
        """Deliver or drop what arrives on the inactive port."""

    def add_address(self, ifindex: int, address: Address) -> None:
        """Add an address; one that is there already is updated. IPv6 without DAD."""

    def delete_address(self, ifindex: int, address: Address) -> None:
        """Delete an address; one that is gone already is fine."""

    def put_route(self, ifindex: int, route: Route) -> None:
        """Add a route through a link, in place of the first to the same destination and metric.

        One that is ``behind`` another is added as the last, and takes nothing's place.
        """

    def delete_route(self, ifindex: int, route: Route) -> None:
        """Delete a route; one that is gone already is fine."""

    def add_rule(self, rule: Rule) -> None:
        """Add a rule; one that is there already is fine."""

    def delete_rule(self, rule: Rule) -> None:
        """Delete a rule; one that is gone already is fine."""

    def put_neighbour(self, ifindex: int, neighbour: Neighbour) -> None:
        """Set a neighbour on a link for good, in place of what is known of it."""

    def delete_neighbour(self, ifindex: int, neighbour: Neighbour) -> None:
        """Delete a neighbour; one that is gone already is fine."""

    def write_setting(self, name: str, setting: Setting) -> None:
        """Write a setting of a link."""

    def loosen(self, name: str) -> None:
        """Let a link take what is answered through another, as far as ``all`` links may."""

    def solicit(self, ifindex: int, family: int, neighbour: str) -> None:
        """Make a neighbour on a link prove that it can be reached."""

    def reachable(self, ifindex: int) -> frozenset[str]:
        """Return the addresses of the neighbours that have proven it lately."""

    def close(self) -> None:
        """Release what the adapter holds."""
