"""Changes of links and bonds as rtnetlink messages. K: include/uapi/linux/if_link.h (6.12)."""

from __future__ import annotations

import socket

from guestagent.guest.core.policy import FAIL_OVER_MAC_ACTIVE, BondOptions
from guestagent.netlink import uapi
from guestagent.netlink.codec import IFINFOMSG, Attributes, mac, pack, string, u8, u32


def link_message(ifindex: int, attributes: Attributes, *, up: bool | None = None) -> bytes:
    """Encode a message about a link; ``up`` None keeps it up or down."""
    flags, change = (0, 0) if up is None else (uapi.IFF_UP if up else 0, uapi.IFF_UP)
    return IFINFOMSG.pack(socket.AF_UNSPEC, 0, ifindex, flags, change) + pack(attributes)


def new_bond(name: str, *, address: str, mtu: int, options: BondOptions, group: int) -> Attributes:
    """Make a new link an active-backup bond."""
    data = {
        uapi.IFLA_BOND_MODE: u8(uapi.BOND_MODE_ACTIVEBACKUP),
        uapi.IFLA_BOND_MIIMON: u32(options.miimon_ms),
        uapi.IFLA_BOND_PRIMARY_RESELECT: u8(uapi.BOND_PRI_RESELECT_ALWAYS),
        uapi.IFLA_BOND_FAIL_OVER_MAC: u8(options.fail_over_mac),
        uapi.IFLA_BOND_NUM_PEER_NOTIF: u8(options.announcements),
    }
    return {
        uapi.IFLA_IFNAME: string(name),
        uapi.IFLA_ADDRESS: mac(address),
        uapi.IFLA_MTU: u32(mtu),
        uapi.IFLA_GROUP: u32(group),
        **_bond(data),
    }


def bond_intervals(*, miimon_ms: int, announcements: int) -> Attributes:
    """Set the options of a bond that may change while it has ports."""
    number = u8(announcements)
    return _bond({uapi.IFLA_BOND_MIIMON: u32(miimon_ms), uapi.IFLA_BOND_NUM_PEER_NOTIF: number})


def fail_over_mac_active() -> Attributes:
    """Have a bond take the MAC of its active port, and write none to its ports."""
    return _bond({uapi.IFLA_BOND_FAIL_OVER_MAC: u8(FAIL_OVER_MAC_ACTIVE)})


def primary(port: int | None) -> Attributes:
    """Set the primary of a bond, None for none."""
    return _bond({uapi.IFLA_BOND_PRIMARY: u32(port or 0)})


def all_ports_active(*, enabled: bool) -> Attributes:
    """Have a bond deliver or drop what arrives on the inactive port (all_slaves_active)."""
    return _bond({uapi.IFLA_BOND_ALL_SLAVES_ACTIVE: u8(int(enabled))})


def upper(ifindex: int | None) -> Attributes:
    """Make a link a port of another link, or of none."""
    return {uapi.IFLA_MASTER: u32(ifindex or 0)}


def alias(text: str, *, group: int) -> Attributes:
    """Set alias and group of a link."""
    return {uapi.IFLA_IFALIAS: string(text), uapi.IFLA_GROUP: u32(group)}


def namespace(descriptor: int) -> Attributes:
    """Move a link to the network namespace of an open descriptor."""
    return {uapi.IFLA_NET_NS_FD: u32(descriptor)}


def ipv6_addr_gen(*, on: bool) -> Attributes:
    """Set addrgenmode eui64, or none (K: net/ipv6/addrconf.c, inet6_set_link_af (6.12))."""
    mode = uapi.IN6_ADDR_GEN_MODE_EUI64 if on else uapi.IN6_ADDR_GEN_MODE_NONE
    inet6 = pack({uapi.IFLA_INET6_ADDR_GEN_MODE: u8(mode)})
    return {uapi.IFLA_AF_SPEC: pack({socket.AF_INET6: inet6})}


def _bond(data: Attributes) -> Attributes:
    info = {uapi.IFLA_INFO_KIND: string("bond"), uapi.IFLA_INFO_DATA: pack(data)}
    return {uapi.IFLA_LINKINFO: pack(info)}
