"""Links as rtnetlink describes them; the caller adds the device from sysfs.

The agent reads all of them after every event. Most of the sixty attributes of a link stay bytes.
"""

from __future__ import annotations

import socket

from guestagent.guest.core.link import BondState, Link
from guestagent.netlink import uapi
from guestagent.netlink.codec import (
    IFINFOMSG,
    Attributes,
    NetlinkMessage,
    link_message,
    number,
    string,
    text,
    texts,
    u32,
    unpack,
)
from guestagent.netlink.rtnetlink import RtnetlinkSocket

_OPERATIONAL = {uapi.IF_OPER_UNKNOWN, uapi.IF_OPER_UP}
_WITHOUT_STATISTICS = {uapi.IFLA_EXT_MASK: u32(uapi.RTEXT_FILTER_SKIP_STATS)}
_MODES = (
    "balance-rr",
    "active-backup",
    "balance-xor",
    "broadcast",
    "802.3ad",
    "balance-tlb",
    "balance-alb",
)


def links(rtnetlink: RtnetlinkSocket) -> tuple[Link, ...]:
    """Return every link."""
    return tuple(_decode(message) for message in _dump(rtnetlink))


def link(rtnetlink: RtnetlinkSocket, name: str) -> Link | None:
    """Return the link with this name, None without one."""
    request = link_message(0, {uapi.IFLA_IFNAME: string(name)} | _WITHOUT_STATISTICS)
    found = rtnetlink.get(f"query link {name}", uapi.RTM_GETLINK, request, IFINFOMSG.size)
    return None if found is None else _decode(found)


def max_mtus(rtnetlink: RtnetlinkSocket) -> dict[int, int]:
    """Return the maximum MTU of each link that reports one, by ifindex."""
    found = {
        IFINFOMSG.unpack(m.fixed)[2]: number(m.attributes, uapi.IFLA_MAX_MTU)
        for m in _dump(rtnetlink)
    }
    return {ifindex: limit for ifindex, limit in found.items() if limit}


def _dump(rtnetlink: RtnetlinkSocket) -> list[NetlinkMessage]:
    request = link_message(0, _WITHOUT_STATISTICS)
    return rtnetlink.dump("list links", uapi.RTM_GETLINK, request, IFINFOMSG.size)


def _decode(message: NetlinkMessage) -> Link:
    _, _, ifindex, flags, _ = IFINFOMSG.unpack(message.fixed)
    found = message.attributes
    info = unpack(found.get(uapi.IFLA_LINKINFO, b""))
    kind = text(info, uapi.IFLA_INFO_KIND)
    permanent = _mac(found.get(uapi.IFLA_PERM_ADDRESS))
    if permanent is None and text(info, uapi.IFLA_INFO_SLAVE_KIND) == "bond":
        # Kernels before 5.6 report it for ports of a bond only.
        permanent = _mac(
            unpack(info.get(uapi.IFLA_INFO_SLAVE_DATA, b"")).get(uapi.IFLA_BOND_SLAVE_PERM_HWADDR)
        )
    data = info.get(uapi.IFLA_INFO_DATA)
    up = bool(flags & uapi.IFF_UP)
    carrier = up and bool(number(found, uapi.IFLA_CARRIER))
    return Link(
        ifindex=ifindex,
        name=text(found, uapi.IFLA_IFNAME) or "",
        address=found.get(uapi.IFLA_ADDRESS, b"").hex(":"),
        permanent_address=permanent,
        kind=kind,
        mtu=number(found, uapi.IFLA_MTU) or 0,
        up=up,
        carrier=carrier,
        operational=carrier and number(found, uapi.IFLA_OPERSTATE) in _OPERATIONAL,
        ipv6_addr_gen=_ipv6_addr_gen(found.get(uapi.IFLA_AF_SPEC, b"")),
        upper=number(found, uapi.IFLA_MASTER),
        lower=_lower(found),
        alias=text(found, uapi.IFLA_IFALIAS),
        group=number(found, uapi.IFLA_GROUP) or 0,
        other_names=texts(found.get(uapi.IFLA_PROP_LIST, b""), uapi.IFLA_ALT_IFNAME),
        bond=_bond(unpack(data)) if kind == "bond" and data is not None else None,
    )


def _lower(found: Attributes) -> int | None:
    """Return the ifindex of the link below, None if that is in another network namespace.

    Each namespace numbers its links from 1: a container's end of a veth often has the number of
    the first NIC here (K: net/core/rtnetlink.c, rtnl_fill_link_netnsid (6.12)).
    """
    return None if uapi.IFLA_LINK_NETNSID in found else number(found, uapi.IFLA_LINK)


def _bond(data: Attributes) -> BondState:
    mode = number(data, uapi.IFLA_BOND_MODE) or 0
    return BondState(
        mode=_MODES[mode] if mode < len(_MODES) else str(mode),
        active=number(data, uapi.IFLA_BOND_ACTIVE_SLAVE) or None,
        primary=number(data, uapi.IFLA_BOND_PRIMARY) or None,
        miimon_ms=number(data, uapi.IFLA_BOND_MIIMON) or 0,
        fail_over_mac=number(data, uapi.IFLA_BOND_FAIL_OVER_MAC) or 0,
        primary_reselect=number(data, uapi.IFLA_BOND_PRIMARY_RESELECT) or 0,
        announcements=number(data, uapi.IFLA_BOND_NUM_PEER_NOTIF) or 0,
        all_ports_active=bool(number(data, uapi.IFLA_BOND_ALL_SLAVES_ACTIVE)),
    )


def _ipv6_addr_gen(spec: bytes) -> bool:
    inet6 = unpack(unpack(spec).get(socket.AF_INET6, b""))
    return number(inet6, uapi.IFLA_INET6_ADDR_GEN_MODE) != uapi.IN6_ADDR_GEN_MODE_NONE


def _mac(value: bytes | None) -> str | None:
    return value.hex(":") if value and any(value) else None
