"""The kernel through rtnetlink, sysctl and sysfs; an instance belongs to one thread."""

from __future__ import annotations

import errno
import socket

from guestagent.errors import SystemLacksError
from guestagent.guest.core.addressing import Address, Neighbour, Route, Rule, Setting
from guestagent.guest.core.link import Link
from guestagent.guest.core.policy import FAIL_OVER_MAC_ACTIVE, BondOptions
from guestagent.guest.kernel import addresses, links, neighbours, qdisc, routes, rules, settings
from guestagent.guest.kernel import tx_backlog as backlog
from guestagent.guest.kernel.protocol import KernelError
from guestagent.guest.kernel.sysfs import with_device
from guestagent.netlink import uapi
from guestagent.netlink.codec import Attributes, link_message, pack, string, u8, u32
from guestagent.netlink.codec import mac as encode_mac
from guestagent.netlink.rtnetlink import Ignored, RtnetlinkSocket


class NetlinkKernel(RtnetlinkSocket):
    """The Kernel protocol over one rtnetlink socket; close it or use it as a context.

    ``Kernel`` documents the methods. Those that are assigned here are functions of the other
    modules, which take the socket as their first argument.
    """

    def __init__(self) -> None:
        super().__init__(KernelError)

    link = links.link
    max_mtus = links.max_mtus
    add_address = addresses.add_address
    delete_address = addresses.delete_address
    put_route = routes.put_route
    delete_route = routes.delete_route
    add_rule = rules.add_rule
    delete_rule = rules.delete_rule
    put_neighbour = neighbours.put_neighbour
    delete_neighbour = neighbours.delete_neighbour
    solicit_neighbour = neighbours.solicit_neighbour
    reachable_neighbours = neighbours.reachable_neighbours
    unmovable = qdisc.unmovable
    tx_backlog = backlog.tx_backlog
    has_rp_filter = staticmethod(settings.has_rp_filter)
    loosen_rp_filter = staticmethod(settings.loosen_rp_filter)
    write_setting = staticmethod(settings.write_setting)

    def links(self) -> tuple[Link, ...]:
        return tuple(with_device(link) for link in links.links(self))

    def addresses(self, ifindex: int) -> tuple[Address, ...]:
        return addresses.addresses(self, ifindex)

    def routes(self, ifindex: int) -> tuple[Route, ...]:
        try:
            hears_routers = settings.hears_routers(socket.if_indextoname(ifindex))
        except OSError:
            hears_routers = False  # the link has gone, and so have its routes
        return routes.routes(self, ifindex, hears_routers=hears_routers)

    def rules(self, name: str) -> tuple[Rule, ...]:
        return rules.rules(self, name)

    def neighbours(self, ifindex: int) -> tuple[Neighbour, ...]:
        return neighbours.neighbours(self, ifindex)

    def settings(self, name: str) -> frozenset[Setting]:
        return settings.settings(name)

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
        data = {
            uapi.IFLA_BOND_MODE: u8(uapi.BOND_MODE_ACTIVEBACKUP),
            uapi.IFLA_BOND_MIIMON: u32(options.miimon_ms),
            uapi.IFLA_BOND_PRIMARY_RESELECT: u8(uapi.BOND_PRI_RESELECT_ALWAYS),
            uapi.IFLA_BOND_FAIL_OVER_MAC: u8(options.fail_over_mac),
            uapi.IFLA_BOND_NUM_PEER_NOTIF: u8(options.announcements),
        }
        bond = {
            uapi.IFLA_IFNAME: string(name),
            uapi.IFLA_ADDRESS: encode_mac(mac),
            uapi.IFLA_MTU: u32(mtu),
            uapi.IFLA_GROUP: u32(group),
            **_bond(data),
        }
        try:
            self._change(f"create {name}", 0, bond, flags=uapi.NLM_F_CREATE | uapi.NLM_F_EXCL)
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
        self.send(f"delete link {ifindex}", uapi.RTM_DELLINK, link_message(ifindex))

    def set_alias(self, ifindex: int, alias: str) -> None:
        attributes = {uapi.IFLA_IFALIAS: string(alias), uapi.IFLA_GROUP: u32(0)}
        self._change(f"set the alias of link {ifindex}", ifindex, attributes)

    def set_up(self, ifindex: int, *, up: bool) -> None:
        what = f"bring link {ifindex} {'up' if up else 'down'}"
        self.send(what, uapi.RTM_NEWLINK, link_message(ifindex, up=up))

    def set_ipv6_addr_gen(self, ifindex: int, *, on: bool) -> None:
        """Set addrgenmode eui64 or none (K: net/ipv6/addrconf.c, inet6_set_link_af (6.12))."""
        mode = uapi.IN6_ADDR_GEN_MODE_EUI64 if on else uapi.IN6_ADDR_GEN_MODE_NONE
        inet6 = pack({uapi.IFLA_INET6_ADDR_GEN_MODE: u8(mode)})
        attributes = {uapi.IFLA_AF_SPEC: pack({socket.AF_INET6: inet6})}
        # A kernel without IPv6 makes no address.
        ignored = {errno.EAFNOSUPPORT}
        self._change(f"set addrgenmode of link {ifindex}", ifindex, attributes, ignored=ignored)

    def set_upper(self, ifindex: int, upper: int | None) -> None:
        what = f"make link {ifindex} a port of {upper}" if upper else f"detach link {ifindex}"
        self._change(what, ifindex, {uapi.IFLA_MASTER: u32(upper or 0)})

    def tune_bond(self, bond: int, *, miimon_ms: int, announcements: int) -> None:
        options = {
            uapi.IFLA_BOND_MIIMON: u32(miimon_ms),
            uapi.IFLA_BOND_NUM_PEER_NOTIF: u8(announcements),
        }
        self._change(f"set options of bond {bond}", bond, _bond(options))

    def set_fail_over_mac_active(self, bond: int) -> None:
        option = _bond({uapi.IFLA_BOND_FAIL_OVER_MAC: u8(FAIL_OVER_MAC_ACTIVE)})
        self._change(f"set fail_over_mac of bond {bond}", bond, option)

    def set_primary(self, bond: int, port: int | None) -> None:
        option = _bond({uapi.IFLA_BOND_PRIMARY: u32(port or 0)})
        self._change(f"set the primary of bond {bond}", bond, option)

    def set_all_ports_active(self, bond: int, *, enabled: bool) -> None:
        option = _bond({uapi.IFLA_BOND_ALL_SLAVES_ACTIVE: u8(int(enabled))})
        self._change(f"set all_slaves_active of bond {bond}", bond, option)

    def _change(
        self,
        what: str,
        ifindex: int,
        attributes: Attributes,
        flags: int = 0,
        *,
        ignored: Ignored = (),
    ) -> None:
        message = link_message(ifindex, attributes)
        self.send(what, uapi.RTM_NEWLINK, message, flags, ignored=ignored)


def _bond(data: Attributes) -> Attributes:
    info = {uapi.IFLA_INFO_KIND: string("bond"), uapi.IFLA_INFO_DATA: pack(data)}
    return {uapi.IFLA_LINKINFO: pack(info)}
