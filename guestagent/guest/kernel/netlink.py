"""The kernel through rtnetlink, sysctl and sysfs; an instance belongs to one thread."""

from __future__ import annotations

import errno
import socket
from dataclasses import replace
from typing import Self

from guestagent.errors import SystemLacksError
from guestagent.guest.core.addressing import Address, Neighbour, Route, Rule, Setting
from guestagent.guest.core.link import Link
from guestagent.guest.core.policy import BondOptions
from guestagent.guest.kernel import (
    addresses,
    link_messages,
    links,
    neighbours,
    qdisc,
    routes,
    rules,
    settings,
    tx_backlog,
)
from guestagent.guest.kernel.protocol import KernelError
from guestagent.guest.kernel.sysfs import device_facts
from guestagent.netlink.codec import Attributes
from guestagent.netlink.rtnetlink import RtnetlinkSocket
from guestagent.netlink.uapi import NLM_F_CREATE, NLM_F_EXCL, RTM_DELLINK, RTM_NEWLINK


class NetlinkKernel:
    """The Kernel protocol over one rtnetlink socket; close it or use it as a context.

    ``Kernel`` documents the methods.
    """

    def __init__(self) -> None:
        self._rtnetlink = RtnetlinkSocket(KernelError)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._rtnetlink.close()

    def links(self) -> tuple[Link, ...]:
        return tuple(_with_device(link) for link in links.links(self._rtnetlink))

    def link(self, name: str) -> Link | None:
        return links.link(self._rtnetlink, name)

    def max_mtus(self) -> dict[int, int]:
        """Return the maximum MTU of each link that reports one, by ifindex."""
        return links.max_mtus(self._rtnetlink)

    def addresses(self, ifindex: int) -> tuple[Address, ...]:
        return addresses.addresses(self._rtnetlink, ifindex)

    def routes(self, ifindex: int) -> tuple[Route, ...]:
        try:
            hears_routers = settings.hears_routers(socket.if_indextoname(ifindex))
        except OSError:
            hears_routers = False  # the link has gone, and so have its routes
        return routes.routes(self._rtnetlink, ifindex, hears_routers=hears_routers)

    def rules(self, name: str) -> tuple[Rule, ...]:
        return rules.rules(self._rtnetlink, name)

    def neighbours(self, ifindex: int) -> tuple[Neighbour, ...]:
        return neighbours.neighbours(self._rtnetlink, ifindex)

    def settings(self, name: str) -> frozenset[Setting]:
        return settings.settings(name)

    def has_rp_filter(self, name: str) -> bool:
        return settings.has_rp_filter(name)

    def unmovable(self, ifindex: int) -> tuple[str, ...]:
        return qdisc.unmovable(self._rtnetlink, ifindex)

    def tx_backlog(self, ifindex: int) -> int:
        return tx_backlog.tx_backlog(self._rtnetlink, ifindex)

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

        The kernel loads the module itself (request_module of rtnl-link-bond) and answers
        EOPNOTSUPP without one (K: net/core/rtnetlink.c, rtnl_newlink). addrgenmode none
        suppresses only the link-local address: from an advertised prefix the kernel makes
        one of the MAC all the same (K: net/ipv6/addrconf.c, addrconf_prefix_rcv (6.12)).
        """
        bond = link_messages.new_bond(name, address=mac, mtu=mtu, options=options, group=group)
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
        if not ipv6_autoconf:
            # The create message takes no AF_SPEC; the bond is still down and makes no address.
            self.set_ipv6_addr_gen(socket.if_nametoindex(name), on=False)
            settings.ignore_routers(name)

    def delete_link(self, ifindex: int) -> None:
        message = link_messages.link_message(ifindex, {})
        self._rtnetlink.send(f"delete link {ifindex}", RTM_DELLINK, message)

    def set_alias(self, ifindex: int, alias: str) -> None:
        what = f"set the alias of link {ifindex}"
        self._change(what, ifindex, link_messages.alias(alias, group=0))

    def set_up(self, ifindex: int, *, up: bool) -> None:
        what = f"bring link {ifindex} {'up' if up else 'down'}"
        self._change(what, ifindex, {}, up=up)

    def set_ipv6_addr_gen(self, ifindex: int, *, on: bool) -> None:
        message = link_messages.link_message(ifindex, link_messages.ipv6_addr_gen(on=on))
        # A kernel without IPv6 makes no address.
        ignored = {errno.EAFNOSUPPORT}
        what = f"set addrgenmode of link {ifindex}"
        self._rtnetlink.send(what, RTM_NEWLINK, message, ignored=ignored)

    def set_upper(self, ifindex: int, upper: int | None) -> None:
        what = f"make link {ifindex} a port of {upper}" if upper else f"detach link {ifindex}"
        self._change(what, ifindex, link_messages.upper(upper))

    def tune_bond(self, bond: int, *, miimon_ms: int, announcements: int) -> None:
        options = link_messages.bond_intervals(miimon_ms=miimon_ms, announcements=announcements)
        self._change(f"set options of bond {bond}", bond, options)

    def set_fail_over_mac_active(self, bond: int) -> None:
        option = link_messages.fail_over_mac_active()
        self._change(f"set fail_over_mac of bond {bond}", bond, option)

    def set_primary(self, bond: int, port: int | None) -> None:
        self._change(f"set the primary of bond {bond}", bond, link_messages.primary(port))

    def set_all_ports_active(self, bond: int, *, enabled: bool) -> None:
        what = f"set all_slaves_active of bond {bond}"
        self._change(what, bond, link_messages.all_ports_active(enabled=enabled))

    def add_address(self, ifindex: int, address: Address) -> None:
        addresses.add_address(self._rtnetlink, ifindex, address)

    def delete_address(self, ifindex: int, address: Address) -> None:
        addresses.delete_address(self._rtnetlink, ifindex, address)

    def put_route(self, ifindex: int, route: Route) -> None:
        routes.put_route(self._rtnetlink, ifindex, route)

    def delete_route(self, ifindex: int, route: Route) -> None:
        routes.delete_route(self._rtnetlink, ifindex, route)

    def add_rule(self, rule: Rule) -> None:
        rules.add_rule(self._rtnetlink, rule)

    def delete_rule(self, rule: Rule) -> None:
        rules.delete_rule(self._rtnetlink, rule)

    def put_neighbour(self, ifindex: int, neighbour: Neighbour) -> None:
        neighbours.put_neighbour(self._rtnetlink, ifindex, neighbour)

    def delete_neighbour(self, ifindex: int, neighbour: Neighbour) -> None:
        neighbours.delete_neighbour(self._rtnetlink, ifindex, neighbour)

    def write_setting(self, name: str, setting: Setting) -> None:
        settings.write_setting(name, setting)

    def loosen_rp_filter(self, name: str) -> None:
        settings.loosen_rp_filter(name)

    def solicit_neighbour(self, ifindex: int, family: int, address: str) -> None:
        neighbours.solicit_neighbour(self._rtnetlink, ifindex, family, address)

    def reachable_neighbours(self, ifindex: int) -> frozenset[str]:
        return neighbours.reachable_neighbours(self._rtnetlink, ifindex)

    def _change(
        self,
        what: str,
        ifindex: int,
        attributes: Attributes,
        *,
        up: bool | None = None,
        flags: int = 0,
    ) -> None:
        message = link_messages.link_message(ifindex, attributes, up=up)
        self._rtnetlink.send(what, RTM_NEWLINK, message, flags)


def _with_device(link: Link) -> Link:
    """Add the device from sysfs; a link with a kind has none."""
    if link.kind is not None:
        return link
    facts = device_facts(link.name, link.ifindex)
    return replace(
        link,
        driver=facts.driver,
        bus_address=facts.bus_address,
        net_failover=facts.net_failover,
    )
