"""The kernel through rtnetlink.

Messages are built here attribute by attribute, because the keyword filters of
pyroute2 differ between 0.7 and 0.9 while its message classes do not; unknown
attributes are dropped by it in silence, so only attributes that 0.7.2 knows
are used. The synchronous IPRoute of 0.9 runs an event loop of its own and
fails inside another one: an instance belongs to one plain thread.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self

from guestagent.errors import SystemLacksError
from guestagent.guest.kernel.decode import decode_address, decode_link, decode_route
from guestagent.guest.kernel.protocol import KernelError
from guestagent.guest.kernel.pyroute import (
    NetlinkError,
    ifaddrmsg,
    ifinfmsg,
    ndmsg,
    open_socket,
    rtmsg,
)
from guestagent.guest.kernel.sysfs import device_facts
from guestagent.guest.model import Address, BondOptions, Link, Route

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_GETNEIGH = 28, 30
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
IFF_UP = 0x1
IN6_ADDR_GEN_MODE_EUI64 = 0
IN6_ADDR_GEN_MODE_NONE = 1
ACTIVE_BACKUP = 1
NUD_REACHABLE, NUD_PROBE, NUD_PERMANENT = 0x02, 0x10, 0x80
NTF_USE = 0x01
PRIMARY_RESELECT_ALWAYS = 0
IFA_F_NODAD = 0x02
IFA_F_DADFAILED = 0x08
IFA_F_TENTATIVE = 0x40
IFA_F_MANAGETEMPADDR = 0x100
IFA_F_NOPREFIXROUTE = 0x200
IFA_F_MCAUTOJOIN = 0x400
_KEPT_FLAGS = 0x10 | IFA_F_MANAGETEMPADDR | IFA_F_NOPREFIXROUTE | IFA_F_MCAUTOJOIN
_UNUSABLE = IFA_F_DADFAILED | IFA_F_TENTATIVE
_FOR_EVER = 0xFFFFFFFF
_GONE = {errno.ENODEV, errno.EADDRNOTAVAIL, errno.ESRCH, errno.ENOENT}

_Attrs = list[tuple[str, Any]]
_WITHOUT_STATISTICS = ("IFLA_EXT_MASK", 8)  # RTEXT_FILTER_SKIP_STATS


class NetlinkKernel:
    """The Kernel protocol over one rtnetlink socket; close it or use it as a context."""

    def __init__(self) -> None:
        self._socket = open_socket()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def links(self) -> tuple[Link, ...]:
        """Return every link, with what sysfs says of the device behind it."""
        with _translated("list links"):
            request = ifinfmsg()
            request["attrs"] = [_WITHOUT_STATISTICS]
            found = [decode_link(message) for message in self._dump(request, RTM_GETLINK)]
        facts = [device_facts(link.name, link.ifindex) for link in found]
        return tuple(
            replace(
                link,
                driver=fact.driver,
                bus_address=fact.bus_address,
                net_failover=fact.net_failover,
            )
            for link, fact in zip(found, facts, strict=True)
        )

    def link(self, name: str) -> Link | None:
        """Return the link of that name, without what sysfs says of it; None without one."""
        message = ifinfmsg()
        message["attrs"] = [("IFLA_IFNAME", name), _WITHOUT_STATISTICS]
        try:
            with _translated(f"look at {name}"):
                (answer,) = self._request(message, RTM_GETLINK, NLM_F_REQUEST | NLM_F_ACK)[:1]
        except KernelError as error:
            if error.code in _GONE:
                return None
            raise
        return decode_link(answer)

    def addresses(self, ifindex: int) -> tuple[Address, ...]:
        """Return the addresses of a link, in the kernel's order."""
        with _translated("list addresses"):
            return tuple(
                decode_address(message)
                for message in self._dump(ifaddrmsg(), RTM_GETADDR)
                if message["index"] == ifindex
            )

    def routes(self, ifindex: int) -> tuple[Route, ...]:
        """Return the routes through a link that the kernel did not make by itself."""
        found: list[Route] = []
        with _translated("list routes"):
            for family in (socket.AF_INET, socket.AF_INET6):
                request = rtmsg()
                request["family"] = family
                for message in self._dump(request, RTM_GETROUTE):
                    route = decode_route(message, ifindex)
                    if route is not None:
                        found.append(route)
        return tuple(found)

    def create_bond(
        self, name: str, *, mac: str, mtu: int, options: BondOptions, group: int, quiet: bool
    ) -> None:
        """Create an active-backup bond, down and without ports.

        The kernel loads the module by itself (request_module of rtnl-link-bond) and
        answers EOPNOTSUPP when it has none (K: net/core/rtnetlink.c, rtnl_newlink).
        """
        data: _Attrs = [
            ("IFLA_BOND_MODE", ACTIVE_BACKUP),
            ("IFLA_BOND_MIIMON", options.miimon_ms),
            ("IFLA_BOND_PRIMARY_RESELECT", PRIMARY_RESELECT_ALWAYS),
            ("IFLA_BOND_FAIL_OVER_MAC", options.fail_over_mac),
            ("IFLA_BOND_NUM_PEER_NOTIF", options.announcements),
        ]
        attrs: _Attrs = [
            ("IFLA_IFNAME", name),
            ("IFLA_ADDRESS", mac),
            ("IFLA_MTU", mtu),
            ("IFLA_GROUP", group),
            _linkinfo(data),
        ]
        flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
        try:
            self._link_message(f"create {name}", 0, attrs, flags=flags)
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

    def delete_link(self, ifindex: int) -> None:
        """Delete a virtual link."""
        message = ifinfmsg()
        message["index"] = ifindex
        self._send(f"delete link {ifindex}", message, RTM_DELLINK)

    def set_alias(self, ifindex: int, alias: str) -> None:
        """Set the alias and return the link to group 0, in one message."""
        attrs: _Attrs = [("IFLA_IFALIAS", alias), ("IFLA_GROUP", 0)]
        self._link_message(f"set the alias of link {ifindex}", ifindex, attrs)

    def set_up(self, ifindex: int, *, up: bool) -> None:
        """Bring a link up or down."""
        message = ifinfmsg()
        message["index"] = ifindex
        message["flags"] = IFF_UP if up else 0
        message["change"] = IFF_UP
        self._send(f"bring link {ifindex} {'up' if up else 'down'}", message, RTM_NEWLINK)

    def set_quiet(self, ifindex: int, *, quiet: bool) -> None:
        """Keep the kernel from making IPv6 addresses on a link (addrgenmode none), or let it.

        K: net/ipv6/addrconf.c, inet6_set_link_af (6.12). A kernel without IPv6
        has nothing to keep quiet and answers EAFNOSUPPORT, which is fine.
        """
        mode = IN6_ADDR_GEN_MODE_NONE if quiet else IN6_ADDR_GEN_MODE_EUI64
        inet6 = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", mode)]}
        attrs: _Attrs = [("IFLA_AF_SPEC", {"attrs": [("AF_INET6", inet6)]})]
        try:
            self._link_message(f"set addrgenmode of link {ifindex}", ifindex, attrs)
        except KernelError as error:
            if error.code != errno.EAFNOSUPPORT:
                raise

    def set_upper(self, ifindex: int, upper: int | None) -> None:
        """Make a link a port of ``upper``, or release it. EPERM when it is up."""
        what = f"make link {ifindex} a port of {upper}" if upper else f"release link {ifindex}"
        self._link_message(what, ifindex, [("IFLA_MASTER", upper or 0)])

    def set_primary(self, bond: int, port: int | None) -> None:
        """Set or clear the primary of a bond."""
        self._bond_message(f"set the primary of bond {bond}", bond, "IFLA_BOND_PRIMARY", port or 0)

    def set_all_ports_active(self, bond: int, *, enabled: bool) -> None:
        """Deliver or drop what arrives on the inactive port."""
        what = f"set all_slaves_active of bond {bond}"
        self._bond_message(what, bond, "IFLA_BOND_ALL_SLAVES_ACTIVE", int(enabled))

    def add_address(self, ifindex: int, address: Address) -> None:
        """Add an address; one that is there already is updated. IPv6 without DAD.

        An update does not end what DAD has begun or found (K: net/ipv6/addrconf.c,
        inet6_addr_modify (6.12)), so such an address is made anew.
        """
        message = _address_message(ifindex, address)
        flags = address.flags & _KEPT_FLAGS
        if address.family == socket.AF_INET6:
            flags |= IFA_F_NODAD
            present = (item for item in self.addresses(ifindex) if item.address == address.address)
            if any(item.flags & _UNUSABLE for item in present):
                self.delete_address(ifindex, address)
        message["attrs"].append(("IFA_FLAGS", flags))
        if address.broadcast is not None:
            message["attrs"].append(("IFA_BROADCAST", address.broadcast))
        if address.valid_s is not None or address.preferred_s is not None:
            lifetimes = {
                "ifa_preferred": _FOR_EVER if address.preferred_s is None else address.preferred_s,
                "ifa_valid": _FOR_EVER if address.valid_s is None else address.valid_s,
                "cstamp": 0,
                "tstamp": 0,
            }
            message["attrs"].append(("IFA_CACHEINFO", lifetimes))
        self._send(
            f"add {address.address}/{address.prefix_length} to link {ifindex}",
            message,
            RTM_NEWADDR,
            flags=NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
        )

    def delete_address(self, ifindex: int, address: Address) -> None:
        """Delete an address; one that is gone already is fine."""
        self._send_unless_gone(
            f"delete {address.address}/{address.prefix_length} from link {ifindex}",
            _address_message(ifindex, address),
            RTM_DELADDR,
        )

    def put_route(self, ifindex: int, route: Route) -> None:
        """Add a route through a link, in place of one to the same destination and metric.

        IPv6 keeps one entry for each next hop: there the former one is deleted
        apart, and one that is there already is answered with EEXIST, which is fine
        (K: net/ipv6/ip6_fib.c, fib6_add_rt2node (6.12)).
        """
        message = _route_message(ifindex, route)
        if route.expires_s is not None:
            message["attrs"].append(("RTA_EXPIRES", route.expires_s))
        flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE
        if route.family == socket.AF_INET:
            flags |= NLM_F_REPLACE
        try:
            self._send(
                f"route {_shown(route)} through link {ifindex}", message, RTM_NEWROUTE, flags
            )
        except KernelError as error:
            if error.code != errno.EEXIST or route.family != socket.AF_INET6:
                raise

    def delete_route(self, ifindex: int, route: Route) -> None:
        """Delete a route; one that is gone already is fine."""
        what = f"delete route {_shown(route)} through link {ifindex}"
        self._send_unless_gone(what, _route_message(ifindex, route), RTM_DELROUTE)

    def solicit(self, ifindex: int, family: int, neighbour: str) -> None:
        """Make a neighbour on a link prove that it can be reached.

        A known one is put into the state PROBE, an unknown one is used, which
        makes the kernel look for it (K: net/core/neighbour.c, neigh_add (6.12)).
        """
        known = any(
            message.get_attr("NDA_DST") == neighbour and message.get_attr("NDA_LLADDR")
            for message in self._neighbours(ifindex)
        )
        message = ndmsg()
        message["family"] = family
        message["ifindex"] = ifindex
        message["state"] = NUD_PROBE if known else 0
        message["flags"] = 0 if known else NTF_USE
        message["attrs"] = [("NDA_DST", neighbour)]
        flags = NLM_F_REQUEST | NLM_F_ACK | (NLM_F_REPLACE if known else NLM_F_CREATE)
        self._send(f"solicit {neighbour} on link {ifindex}", message, RTM_NEWNEIGH, flags)

    def reachable(self, ifindex: int) -> frozenset[str]:
        """Return the addresses of the neighbours that have proven it lately."""
        return frozenset(
            message.get_attr("NDA_DST")
            for message in self._neighbours(ifindex)
            if message["state"] & (NUD_REACHABLE | NUD_PERMANENT)
        )

    def _neighbours(self, ifindex: int) -> Iterator[Any]:
        with _translated("list neighbours"):
            for message in self._dump(ndmsg(), RTM_GETNEIGH):
                if message["ifindex"] == ifindex:
                    yield message

    def _bond_message(self, what: str, bond: int, attribute: str, value: int) -> None:
        self._link_message(what, bond, [_linkinfo([(attribute, value)])])

    def _link_message(
        self, what: str, ifindex: int, attrs: _Attrs, flags: int = NLM_F_REQUEST | NLM_F_ACK
    ) -> None:
        message = ifinfmsg()
        message["index"] = ifindex
        message["attrs"] = attrs
        self._send(what, message, RTM_NEWLINK, flags)

    def _send_unless_gone(self, what: str, message: Any, kind: int) -> None:
        try:
            self._send(what, message, kind)
        except KernelError as error:
            if error.code not in _GONE:
                raise

    def _send(
        self, what: str, message: Any, kind: int, flags: int = NLM_F_REQUEST | NLM_F_ACK
    ) -> None:
        with _translated(what):
            self._request(message, kind, flags)

    def _dump(self, message: Any, kind: int) -> tuple[Any, ...]:
        return self._request(message, kind, NLM_F_REQUEST | NLM_F_DUMP)

    def _request(self, message: Any, kind: int, flags: int) -> tuple[Any, ...]:
        """Send one message and return the answers.

        nlm_request_batch is the one request method that works alike in 0.7 and
        0.9. It is a generator in 0.7: draining it is what sends the message.
        """
        message["header"]["type"] = kind
        message["header"]["flags"] = flags
        return tuple(self._socket.nlm_request_batch([message]))


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        raise KernelError(f"could not {what}", abs(error.code)) from error
    except OSError as error:
        raise KernelError(f"could not {what}", error.errno or errno.EIO) from error


def _linkinfo(data: _Attrs) -> tuple[str, Any]:
    info = [("IFLA_INFO_KIND", "bond"), ("IFLA_INFO_DATA", {"attrs": data})]
    return ("IFLA_LINKINFO", {"attrs": info})


def _address_message(ifindex: int, address: Address) -> Any:
    message = ifaddrmsg()
    message["family"] = address.family
    message["index"] = ifindex
    message["prefixlen"] = address.prefix_length
    message["scope"] = address.scope
    attrs: _Attrs = [
        ("IFA_LOCAL", address.address),
        ("IFA_ADDRESS", address.peer or address.address),
    ]
    if address.family == socket.AF_INET6 and address.peer is None:
        attrs = [("IFA_ADDRESS", address.address)]
    message["attrs"] = attrs
    return message


def _route_message(ifindex: int, route: Route) -> Any:
    message = rtmsg()
    message["family"] = route.family
    message["dst_len"] = route.prefix_length
    message["table"] = route.table if route.table < 256 else 0
    message["proto"] = route.protocol
    message["scope"] = route.scope
    message["type"] = route.kind
    message["flags"] = route.flags
    attrs: _Attrs = [("RTA_TABLE", route.table), ("RTA_OIF", ifindex)]
    for attribute, value in (
        ("RTA_DST", route.destination),
        ("RTA_GATEWAY", route.gateway),
        ("RTA_PREFSRC", route.source),
        ("RTA_PRIORITY", route.metric),
        ("RTA_PREF", route.preference),
    ):
        if value is not None:
            attrs.append((attribute, value))
    if route.metrics:
        attrs.append(("RTA_METRICS", {"attrs": list(route.metrics)}))
    message["attrs"] = attrs
    return message


def _shown(route: Route) -> str:
    return f"{route.destination or 'default'}/{route.prefix_length}"
