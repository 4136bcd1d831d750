"""What is attached to a link and cannot be moved to another: queues, filters, XDP."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from guestagent.guest.kernel.routes import shared_routes
from guestagent.guest.kernel.rtnetlink import Attributes, RtNetlink, text, unpacked

RTM_GETLINK, RTM_GETQDISC = 18, 38
IFLA_XDP, IFLA_XDP_ATTACHED = 43, 2
TCA_KIND = 1
_LINK = struct.Struct("=BxHiII")
_QDISC = struct.Struct("=BxxxiIII")


def obstacles(rtnetlink: RtNetlink, ifindex: int) -> tuple[str, ...]:
    """Return in words what would be lost if the link's addresses went elsewhere."""
    found = [f"has the queueing discipline {kind}" for kind in _own_qdiscs(rtnetlink, ifindex)]
    if _has_xdp(rtnetlink, ifindex):
        found.append("has an XDP program")
    shared = shared_routes(rtnetlink, ifindex)
    if shared:
        found.append(f"is one of several next hops, or of a next-hop object, in {shared} routes")
    return tuple(found)


def _own_qdiscs(rtnetlink: RtNetlink, ifindex: int) -> list[str]:
    """Return the kinds of those that somebody attached: the kernel's own have no handle.

    K: net/sched/sch_generic.c, attach_default_qdiscs; net/sched/sch_api.c, tc_modify_qdisc
    (6.12). clsact and ingress, which hold filters, always have one.
    """
    return [
        text(attributes, TCA_KIND) or "?"
        for handle, attributes in qdiscs(rtnetlink, ifindex)
        if handle
    ]


def qdiscs(rtnetlink: RtNetlink, ifindex: int) -> Iterator[tuple[int, Attributes]]:
    """Yield handle and attributes of each queueing discipline of a link."""
    request = _QDISC.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    for message in rtnetlink.dump("list qdiscs", RTM_GETQDISC, request, _QDISC.size):
        _, link, handle, _, _ = _QDISC.unpack(message.fixed)
        if link == ifindex:
            yield handle, message.attributes


def _has_xdp(rtnetlink: RtNetlink, ifindex: int) -> bool:
    request = _LINK.pack(socket.AF_UNSPEC, 0, ifindex, 0, 0)
    link = rtnetlink.get(f"look at link {ifindex}", RTM_GETLINK, request, _LINK.size)
    xdp = unpacked(link.attributes.get(IFLA_XDP, b"")) if link is not None else {}
    return any(xdp.get(IFLA_XDP_ATTACHED, b"\0"))
