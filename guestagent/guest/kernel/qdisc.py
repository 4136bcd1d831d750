"""Queueing disciplines and other parts of a link that cannot be moved to another link."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from guestagent.guest.kernel.routes import shared_routes
from guestagent.netlink import uapi
from guestagent.netlink.codec import IFINFOMSG, Attributes, link_message, text, unpack
from guestagent.netlink.rtnetlink import RtnetlinkSocket

_TCMSG = struct.Struct("=BxxxiIII")


def unmovable(rtnetlink: RtnetlinkSocket, ifindex: int) -> tuple[str, ...]:
    """Describe what would be lost if the addressing of a link were moved to another link."""
    # A queueing discipline of the kernel has no handle; clsact and ingress, which hold filters,
    # always have one (K: net/sched/sch_generic.c, attach_default_qdiscs; net/sched/sch_api.c,
    # tc_modify_qdisc (6.12)).
    found = [
        f"has the queueing discipline {text(attributes, uapi.TCA_KIND) or '?'}"
        for handle, attributes in qdiscs(rtnetlink, ifindex)
        if handle
    ]
    if _has_xdp(rtnetlink, ifindex):
        found.append("has an XDP program")
    shared = shared_routes(rtnetlink, ifindex)
    if shared:
        found.append(f"is one of several next hops, or of a next-hop object, in {shared} routes")
    return tuple(found)


def qdiscs(rtnetlink: RtnetlinkSocket, ifindex: int) -> Iterator[tuple[int, Attributes]]:
    """Yield handle and attributes of each queueing discipline of a link."""
    request = _TCMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    for message in rtnetlink.dump("list qdiscs", uapi.RTM_GETQDISC, request, _TCMSG.size):
        _, link, handle, _, _ = _TCMSG.unpack(message.fixed)
        if link == ifindex:
            yield handle, message.attributes


def _has_xdp(rtnetlink: RtnetlinkSocket, ifindex: int) -> bool:
    request = link_message(ifindex)
    link = rtnetlink.get(f"query link {ifindex}", uapi.RTM_GETLINK, request, IFINFOMSG.size)
    xdp = unpack(link.attributes.get(uapi.IFLA_XDP, b"")) if link is not None else {}
    return any(xdp.get(uapi.IFLA_XDP_ATTACHED, b"\0"))
