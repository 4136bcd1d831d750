"""From values of the model to the link messages of rtnetlink, in bytes.

The boot waits for what is said here, and loading pyroute2 for it took a third of that time.
K: include/uapi/linux/if_link.h (6.12).
"""

from __future__ import annotations

import os
import socket
import struct

from guestagent.guest.core.model import FAIL_OVER_MAC_ACTIVE, BondOptions
from guestagent.guest.kernel.rtnetlink import Attributes, packed, u32

IFF_UP = 0x1
_ADDRESS, _IFNAME, _MTU, _MASTER, _LINKINFO = 1, 3, 4, 10, 18
_IFALIAS, _AF_SPEC, _GROUP, _NET_NS_FD = 20, 26, 27, 28
_INFO_KIND, _INFO_DATA = 1, 2
_BOND_MODE, _BOND_MIIMON, _BOND_PRIMARY, _BOND_PRIMARY_RESELECT = 1, 3, 11, 12
_BOND_FAIL_OVER_MAC, _BOND_NUM_PEER_NOTIF, _BOND_ALL_SLAVES_ACTIVE = 13, 16, 17
_ACTIVE_BACKUP, _PRIMARY_RESELECT_ALWAYS = 1, 0
_INET6_ADDR_GEN_MODE = 8
_ADDR_GEN_MODE_EUI64, _ADDR_GEN_MODE_NONE = 0, 1
_FIXED = struct.Struct("=BxHiII")


def link(ifindex: int, attributes: Attributes, *, up: bool | None = None) -> bytes:
    """Return the message about a link; ``up`` None leaves that as it is."""
    flags, change = (0, 0) if up is None else (IFF_UP if up else 0, IFF_UP)
    return _FIXED.pack(socket.AF_UNSPEC, 0, ifindex, flags, change) + packed(attributes)


def new_bond(name: str, *, mac: str, mtu: int, options: BondOptions, group: int) -> Attributes:
    """Return what makes a new link an active-backup bond."""
    data = {
        _BOND_MODE: _u8(_ACTIVE_BACKUP),
        _BOND_MIIMON: u32(options.miimon_ms),
        _BOND_PRIMARY_RESELECT: _u8(_PRIMARY_RESELECT_ALWAYS),
        _BOND_FAIL_OVER_MAC: _u8(options.fail_over_mac),
        _BOND_NUM_PEER_NOTIF: _u8(options.announcements),
    }
    return {
        _IFNAME: os.fsencode(name) + b"\0",
        _ADDRESS: bytes.fromhex(mac.replace(":", "")),
        _MTU: u32(mtu),
        _GROUP: u32(group),
        **_bond(data),
    }


def tuning(*, miimon_ms: int, announcements: int) -> Attributes:
    """Return the options of a bond that may change while it has ports."""
    return _bond({_BOND_MIIMON: u32(miimon_ms), _BOND_NUM_PEER_NOTIF: _u8(announcements)})


def writing_no_mac() -> Attributes:
    """Return the option with which a bond takes the MAC of its active port and writes none."""
    return _bond({_BOND_FAIL_OVER_MAC: _u8(FAIL_OVER_MAC_ACTIVE)})


def primary(port: int | None) -> Attributes:
    """Return the primary of a bond, None for none."""
    return _bond({_BOND_PRIMARY: u32(port or 0)})


def all_ports_active(*, enabled: bool) -> Attributes:
    """Return whether a bond delivers what arrives on the inactive port."""
    return _bond({_BOND_ALL_SLAVES_ACTIVE: _u8(int(enabled))})


def upper(ifindex: int | None) -> Attributes:
    """Return what a link is a port of, None for nothing."""
    return {_MASTER: u32(ifindex or 0)}


def alias(text: str, *, group: int) -> Attributes:
    """Return alias and group of a link."""
    return {_IFALIAS: text.encode() + b"\0", _GROUP: u32(group)}


def namespace(descriptor: int) -> Attributes:
    """Return into which network namespace a link goes."""
    return {_NET_NS_FD: u32(descriptor)}


def quietness(*, quiet: bool) -> Attributes:
    """Return addrgenmode none, or eui64 (K: net/ipv6/addrconf.c, inet6_set_link_af (6.12))."""
    mode = _ADDR_GEN_MODE_NONE if quiet else _ADDR_GEN_MODE_EUI64
    inet6 = packed({_INET6_ADDR_GEN_MODE: _u8(mode)})
    return {_AF_SPEC: packed({socket.AF_INET6: inet6})}


def _bond(data: Attributes) -> Attributes:
    return {_LINKINFO: packed({_INFO_KIND: b"bond\0", _INFO_DATA: packed(data)})}


def _u8(value: int) -> bytes:
    return bytes([value])
