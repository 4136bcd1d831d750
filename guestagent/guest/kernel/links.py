"""Links, as rtnetlink tells of them; what sysfs knows of their devices is added by the caller.

They are read at every event. pyroute2 makes an object of each of a link's sixty
attributes, most of which nobody asks for: that took seven times as long.
"""

from __future__ import annotations

import os
import socket
import struct
import sys

from guestagent.guest.core.model import BondState, Link
from guestagent.guest.kernel.rtnetlink import (
    Attributes,
    Message,
    RtNetlink,
    packed,
    text,
    texts,
    u32,
    unpacked,
)

RTM_GETLINK = 18
IFF_UP = 0x1
# K: include/uapi/linux/if_link.h (6.12)
_ADDRESS, _IFNAME, _MTU, _LINK, _MASTER, _OPERSTATE, _LINKINFO = 1, 3, 4, 5, 10, 16, 18
_IFALIAS, _AF_SPEC, _GROUP, _EXT_MASK, _CARRIER = 20, 26, 27, 29, 33
_LINK_NETNSID, _MAX_MTU, _PROP_LIST, _ALT_IFNAME, _PERM_ADDRESS = 37, 51, 52, 53, 54
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_BOND_MODE, _BOND_ACTIVE_SLAVE, _BOND_MIIMON, _BOND_PRIMARY = 1, 2, 3, 11
_BOND_PRIMARY_RESELECT, _BOND_FAIL_OVER_MAC = 12, 13
_BOND_NUM_PEER_NOTIF, _BOND_ALL_SLAVES_ACTIVE = 16, 17
_BOND_SLAVE_PERM_HWADDR = 4
_INET6_ADDR_GEN_MODE = 8
_ADDR_GEN_MODE_NONE = 1
_OPERATIONAL = {0, 6}  # IF_OPER_UNKNOWN, IF_OPER_UP
_WITHOUT_STATISTICS = {_EXT_MASK: u32(8)}  # RTEXT_FILTER_SKIP_STATS
_FIXED = struct.Struct("=BxHiII")
_MODES = (
    "balance-rr",
    "active-backup",
    "balance-xor",
    "broadcast",
    "802.3ad",
    "balance-tlb",
    "balance-alb",
)


def links(rtnetlink: RtNetlink) -> tuple[Link, ...]:
    """Return every link."""
    return tuple(_decoded(message) for message in _dump(rtnetlink))


def link(rtnetlink: RtNetlink, name: str) -> Link | None:
    """Return the link of that name; None without one."""
    wanted = {_IFNAME: os.fsencode(name) + b"\0"} | _WITHOUT_STATISTICS
    request = _FIXED.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + packed(wanted)
    found = rtnetlink.get(f"look at {name}", RTM_GETLINK, request, _FIXED.size)
    return None if found is None else _decoded(found)


def max_mtus(rtnetlink: RtNetlink) -> dict[int, int]:
    """Return the greatest MTU that each link takes, by ifindex; some tell none."""
    found = {_FIXED.unpack(m.fixed)[2]: _number(m.attributes, _MAX_MTU) for m in _dump(rtnetlink)}
    return {ifindex: limit for ifindex, limit in found.items() if limit}


def _dump(rtnetlink: RtNetlink) -> list[Message]:
    request = _FIXED.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + packed(_WITHOUT_STATISTICS)
    return rtnetlink.dump("list links", RTM_GETLINK, request, _FIXED.size)


def _decoded(message: Message) -> Link:
    _, _, ifindex, flags, _ = _FIXED.unpack(message.fixed)
    found = message.attributes
    info = unpacked(found.get(_LINKINFO, b""))
    kind = text(info, _INFO_KIND)
    permanent = _mac(found.get(_PERM_ADDRESS))
    if permanent is None and text(info, _INFO_SLAVE_KIND) == "bond":
        # Kernels before 5.6 name it for the ports of a bond only.
        permanent = _mac(unpacked(info.get(_INFO_SLAVE_DATA, b"")).get(_BOND_SLAVE_PERM_HWADDR))
    up = bool(flags & IFF_UP)
    carrier = up and bool(_number(found, _CARRIER))
    return Link(
        ifindex=ifindex,
        name=text(found, _IFNAME) or "",
        address=found.get(_ADDRESS, b"").hex(":"),
        permanent_address=permanent,
        kind=kind,
        mtu=_number(found, _MTU) or 0,
        up=up,
        carrier=carrier,
        operational=carrier and _number(found, _OPERSTATE) in _OPERATIONAL,
        quiet=_quiet(found.get(_AF_SPEC, b"")),
        upper=_number(found, _MASTER),
        lower=_lower(found),
        alias=text(found, _IFALIAS),
        group=_number(found, _GROUP) or 0,
        other_names=texts(found.get(_PROP_LIST, b""), _ALT_IFNAME),
        bond=_bond(unpacked(info[_INFO_DATA])) if kind == "bond" and _INFO_DATA in info else None,
    )


def _lower(found: Attributes) -> int | None:
    """Return what a link sits on, if that is in this namespace.

    Numbers begin anew in each: a container's end of a veth is mostly 2, as the first NIC here
    (K: net/core/rtnetlink.c, rtnl_fill_link_netnsid (6.12)).
    """
    return None if _LINK_NETNSID in found else _number(found, _LINK)


def _bond(data: Attributes) -> BondState:
    mode = _number(data, _BOND_MODE) or 0
    return BondState(
        mode=_MODES[mode] if mode < len(_MODES) else str(mode),
        active=_number(data, _BOND_ACTIVE_SLAVE) or None,
        primary=_number(data, _BOND_PRIMARY) or None,
        miimon_ms=_number(data, _BOND_MIIMON) or 0,
        fail_over_mac=_number(data, _BOND_FAIL_OVER_MAC) or 0,
        primary_reselect=_number(data, _BOND_PRIMARY_RESELECT) or 0,
        announcements=_number(data, _BOND_NUM_PEER_NOTIF) or 0,
        all_ports_active=bool(_number(data, _BOND_ALL_SLAVES_ACTIVE)),
    )


def _quiet(spec: bytes) -> bool:
    inet6 = unpacked(unpacked(spec).get(socket.AF_INET6, b""))
    return _number(inet6, _INET6_ADDR_GEN_MODE) == _ADDR_GEN_MODE_NONE


def _mac(value: bytes | None) -> str | None:
    return value.hex(":") if value and any(value) else None


def _number(attributes: Attributes, kind: int) -> int | None:
    """Return an unsigned number of whatever width: the bond's are of 8 and of 32 bits."""
    value = attributes.get(kind)
    return int.from_bytes(value, sys.byteorder) if value else None
