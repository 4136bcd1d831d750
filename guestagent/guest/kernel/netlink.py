"""The kernel through rtnetlink; an instance belongs to one thread."""

from __future__ import annotations

import errno
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from guestagent.errors import SystemLacksError
from guestagent.guest.core.model import Address, BondOptions, Link, Neighbour, Route, Rule, Setting
from guestagent.guest.kernel import addresses, carried, encode, links, qdisc, routes, settings
from guestagent.guest.kernel.protocol import KernelError
from guestagent.guest.kernel.rtnetlink import NLM_F_CREATE, NLM_F_EXCL, Attributes, RtNetlink
from guestagent.guest.kernel.sysfs import device_facts
from guestagent.guest.kernel.tx_backlog import unsent

if TYPE_CHECKING:
    from guestagent.guest.kernel.neighbour_probe import Prover

RTM_NEWLINK, RTM_DELLINK = 16, 17


class NetlinkKernel:
    """The Kernel protocol over rtnetlink; close it or use it as a context."""

    def __init__(self) -> None:
        self._bytes = RtNetlink()
        self._prover: Prover | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets."""
        self._bytes.close()
        if self._prover is not None:
            self._prover.close()

    def links(self) -> tuple[Link, ...]:
        """Return every link, with what sysfs says of the device behind it."""
        return tuple(_with_device(link) for link in links.links(self._bytes))

    def link(self, name: str) -> Link | None:
        """Return the link of that name, without what sysfs says of it; None without one."""
        return links.link(self._bytes, name)

    def max_mtus(self) -> dict[int, int]:
        """Return the greatest MTU that each link takes, by ifindex; some tell none."""
        return links.max_mtus(self._bytes)

    def addresses(self, ifindex: int) -> tuple[Address, ...]:
        """Return the addresses of a link, in the kernel's order."""
        return addresses.addresses(self._bytes, ifindex)

    def routes(self, ifindex: int) -> tuple[Route, ...]:
        """Return the routes through a link that the kernel did not make by itself."""
        try:
            hears_routers = settings.hears_routers(socket.if_indextoname(ifindex))
        except OSError:
            hears_routers = False  # the link has gone, and so have its routes
        return routes.routes(self._bytes, ifindex, hears_routers=hears_routers)

    def rules(self, name: str) -> tuple[Rule, ...]:
        """Return the rules that name a link."""
        return carried.rules(self._bytes, name)

    def neighbours(self, ifindex: int) -> tuple[Neighbour, ...]:
        """Return the neighbours of a link that somebody set."""
        return carried.neighbours(self._bytes, ifindex)

    def settings(self, name: str) -> frozenset[Setting]:
        """Return the settings of a link, or those that a new link gets for ``default``."""
        return settings.settings(name)

    def is_filtering(self, name: str) -> bool:
        """Whether a link may drop what would not be answered through it."""
        return settings.is_filtering(name)

    def obstacles(self, ifindex: int) -> tuple[str, ...]:
        """Return what a link has that cannot be moved to another, in words."""
        return qdisc.obstacles(self._bytes, ifindex)

    def unsent(self, ifindex: int) -> int:
        """Return how much a link holds of what it was given to send: 0 is nothing."""
        return unsent(self._bytes, ifindex)

    def create_bond(
        self, name: str, *, mac: str, mtu: int, options: BondOptions, group: int, quiet: bool
    ) -> None:
        """Create an active-backup bond, down and without ports.

        The kernel loads the module by itself (request_module of rtnl-link-bond) and
        answers EOPNOTSUPP when it has none (K: net/core/rtnetlink.c, rtnl_newlink).
        addrgenmode none keeps only the link-local address off a link: from an
        advertised prefix the kernel makes one of the MAC all the same
        (K: net/ipv6/addrconf.c, addrconf_prefix_rcv (6.12)).
        """
        bond = encode.new_bond(name, mac=mac, mtu=mtu, options=options, group=group)
        try:
            self._change(f"create {name}", 0, bond, flags=NLM_F_CREATE | NLM_F_EXCL)
        except KernelError as error:
            if error.code != errno.EOPNOTSUPP:
                raise
            raise SystemLacksError(
                f"could not create {name}: this kernel has no bonding module",
                hint="install the full kernel package of the distribution (not a minimal"
                " flavour), check with `modprobe bonding`, then restart guestagent",
            ) from error
        if quiet:
            # The create message takes no AF_SPEC; the bond is still down and makes no address.
            self.set_quiet(socket.if_nametoindex(name), quiet=True)
            settings.ignore_routers(name)

    def delete_link(self, ifindex: int) -> None:
        """Delete a virtual link."""
        self._bytes.send(f"delete link {ifindex}", RTM_DELLINK, encode.link(ifindex, {}))

    def set_alias(self, ifindex: int, alias: str) -> None:
        """Set the alias and return the link to group 0, in one message."""
        what = f"set the alias of link {ifindex}"
        self._change(what, ifindex, encode.alias(alias, group=0))

    def set_up(self, ifindex: int, *, up: bool) -> None:
        """Bring a link up or down."""
        what = f"bring link {ifindex} {'up' if up else 'down'}"
        self._bytes.send(what, RTM_NEWLINK, encode.link(ifindex, {}, up=up))

    def set_quiet(self, ifindex: int, *, quiet: bool) -> None:
        """Keep the kernel from making IPv6 addresses on a link (addrgenmode none), or let it.

        A kernel without IPv6 has nothing to keep quiet and answers EAFNOSUPPORT, which is fine.
        """
        try:
            what = f"set addrgenmode of link {ifindex}"
            self._change(what, ifindex, encode.quietness(quiet=quiet))
        except KernelError as error:
            if error.code != errno.EAFNOSUPPORT:
                raise

    def set_upper(self, ifindex: int, upper: int | None) -> None:
        """Make a link a port of ``upper``, or release it. EPERM when it is up."""
        what = f"make link {ifindex} a port of {upper}" if upper else f"release link {ifindex}"
        self._change(what, ifindex, encode.upper(upper))

    def tune_bond(self, bond: int, *, miimon_ms: int, announcements: int) -> None:
        """Set how often a bond looks at its ports and how often it announces a change."""
        options = encode.tuning(miimon_ms=miimon_ms, announcements=announcements)
        self._change(f"set options of bond {bond}", bond, options)

    def write_no_mac(self, bond: int) -> None:
        """Have a bond take the MAC of its active port and write none; refused if it has ports."""
        self._change(f"set fail_over_mac of bond {bond}", bond, encode.writing_no_mac())

    def set_primary(self, bond: int, port: int | None) -> None:
        """Set or clear the primary of a bond."""
        self._change(f"set the primary of bond {bond}", bond, encode.primary(port))

    def set_all_ports_active(self, bond: int, *, enabled: bool) -> None:
        """Deliver or drop what arrives on the inactive port."""
        what = f"set all_slaves_active of bond {bond}"
        self._change(what, bond, encode.all_ports_active(enabled=enabled))

    def add_address(self, ifindex: int, address: Address) -> None:
        """Add an address; one that is there already is updated. IPv6 without DAD."""
        addresses.add_address(self._bytes, ifindex, address)

    def delete_address(self, ifindex: int, address: Address) -> None:
        """Delete an address; one that is gone already is fine."""
        addresses.delete_address(self._bytes, ifindex, address)

    def put_route(self, ifindex: int, route: Route) -> None:
        """Add a route through a link, in place of one to the same destination and metric.

        One that is ``behind`` another is added as the last.
        """
        routes.put_route(self._bytes, ifindex, route)

    def delete_route(self, ifindex: int, route: Route) -> None:
        """Delete a route; one that is gone already is fine."""
        routes.delete_route(self._bytes, ifindex, route)

    def add_rule(self, rule: Rule) -> None:
        """Add a rule; one that is there already is fine."""
        carried.add_rule(self._bytes, rule)

    def delete_rule(self, rule: Rule) -> None:
        """Delete a rule; one that is gone already is fine."""
        carried.delete_rule(self._bytes, rule)

    def put_neighbour(self, ifindex: int, neighbour: Neighbour) -> None:
        """Set a neighbour on a link for good."""
        carried.put_neighbour(self._bytes, ifindex, neighbour)

    def delete_neighbour(self, ifindex: int, neighbour: Neighbour) -> None:
        """Delete a neighbour; one that is gone already is fine."""
        carried.delete_neighbour(self._bytes, ifindex, neighbour)

    def write_setting(self, name: str, setting: Setting) -> None:
        """Write a setting of a link."""
        settings.write_setting(name, setting)

    def loosen(self, name: str) -> None:
        """Let a link take what is answered through another."""
        settings.loosen(name)

    def solicit(self, ifindex: int, family: int, neighbour: str) -> None:
        """Make a neighbour on a link prove that it can be reached."""
        self._proving().solicit(ifindex, family, neighbour)

    def reachable(self, ifindex: int) -> frozenset[str]:
        """Return the addresses of the neighbours that have proven it lately."""
        return self._proving().reachable(ifindex)

    def _proving(self) -> Prover:
        if self._prover is None:
            from guestagent.guest.kernel.neighbour_probe import Prover

            self._prover = Prover()
        return self._prover

    def _change(self, what: str, ifindex: int, attributes: Attributes, flags: int = 0) -> None:
        self._bytes.send(what, RTM_NEWLINK, encode.link(ifindex, attributes), flags)


def _with_device(link: Link) -> Link:
    """Add what sysfs says of the device behind a link; one with a kind has none."""
    if link.kind is not None:
        return link
    facts = device_facts(link.name, link.ifindex)
    return replace(
        link,
        driver=facts.driver,
        bus_address=facts.bus_address,
        net_failover=facts.net_failover,
    )
