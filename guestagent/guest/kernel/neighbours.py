"""Neighbours: those that were set on a link, and proofs that one can be reached."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

from guestagent.guest.core.addressing import Neighbour
from guestagent.netlink import uapi
from guestagent.netlink.codec import NDMSG, NetlinkMessage, ip_address, mac, pack
from guestagent.netlink.rtnetlink import RtnetlinkSocket

_GONE = {errno.ENODEV, errno.ENOENT, errno.ESRCH}
_FAMILIES = {socket.AF_INET, socket.AF_INET6}


def neighbours(rtnetlink: RtnetlinkSocket, ifindex: int) -> tuple[Neighbour, ...]:
    """Return the permanent and the proxy neighbours of a link."""
    found: list[Neighbour] = []
    # The kernel lists proxy entries apart.
    for wanted in (0, uapi.NTF_PROXY):
        for family, state, flags, message in _dump(rtnetlink, ifindex, wanted):
            address = _address(family, message)
            if address is not None and (state & uapi.NUD_PERMANENT or flags & uapi.NTF_PROXY):
                found.append(
                    Neighbour(
                        family=family,
                        address=address,
                        hardware_address=message.attributes.get(uapi.NDA_LLADDR, b"").hex(":"),
                        proxy=bool(flags & uapi.NTF_PROXY),
                    )
                )
    return tuple(found)


def put_neighbour(rtnetlink: RtnetlinkSocket, ifindex: int, neighbour: Neighbour) -> None:
    """Set a permanent or a proxy neighbour on a link, in place of a known one."""
    what = f"set neighbour {neighbour.address} on link {ifindex}"
    flags = uapi.NLM_F_CREATE | uapi.NLM_F_REPLACE
    rtnetlink.send(what, uapi.RTM_NEWNEIGH, _payload(ifindex, neighbour), flags)


def delete_neighbour(rtnetlink: RtnetlinkSocket, ifindex: int, neighbour: Neighbour) -> None:
    """Delete a neighbour if it exists."""
    what = f"delete neighbour {neighbour.address} of link {ifindex}"
    rtnetlink.send(what, uapi.RTM_DELNEIGH, _payload(ifindex, neighbour), ignored=_GONE)


def solicit_neighbour(rtnetlink: RtnetlinkSocket, ifindex: int, family: int, address: str) -> None:
    """Make a neighbour on a link prove that it can be reached.

    A known one is put into the state PROBE, an unknown one is used, which
    makes the kernel look for it (K: net/core/neighbour.c, neigh_add (6.12)).
    """
    known = any(
        uapi.NDA_LLADDR in message.attributes and _address(other, message) == address
        for other, _, _, message in _dump(rtnetlink, ifindex)
    )
    state, flags = (uapi.NUD_PROBE, 0) if known else (0, uapi.NTF_USE)
    payload = NDMSG.pack(family, ifindex, state, flags, 0)
    payload += pack({uapi.NDA_DST: socket.inet_pton(family, address)})
    mode = uapi.NLM_F_REPLACE if known else uapi.NLM_F_CREATE
    rtnetlink.send(f"solicit {address} on link {ifindex}", uapi.RTM_NEWNEIGH, payload, mode)


def reachable_neighbours(rtnetlink: RtnetlinkSocket, ifindex: int) -> frozenset[str]:
    """Return the addresses of the neighbours whose reachability is confirmed."""
    confirmed = uapi.NUD_REACHABLE | uapi.NUD_PERMANENT
    found = (
        _address(family, message)
        for family, state, _, message in _dump(rtnetlink, ifindex)
        if state & confirmed
    )
    return frozenset(address for address in found if address is not None)


def _dump(
    rtnetlink: RtnetlinkSocket, ifindex: int, flags: int = 0
) -> Iterator[tuple[int, int, int, NetlinkMessage]]:
    """Yield family, state, flags and message of each neighbour of a link."""
    request = NDMSG.pack(socket.AF_UNSPEC, 0, 0, flags, 0)
    for message in rtnetlink.dump("list neighbours", uapi.RTM_GETNEIGH, request, NDMSG.size):
        family, link, state, own_flags, _ = NDMSG.unpack(message.fixed)
        if link == ifindex:
            yield family, state, own_flags, message


def _address(family: int, message: NetlinkMessage) -> str | None:
    """Return the address of an IP neighbour, None for one of another family."""
    return ip_address(family, message.attributes, uapi.NDA_DST) if family in _FAMILIES else None


def _payload(ifindex: int, neighbour: Neighbour) -> bytes:
    state, flags = (0, uapi.NTF_PROXY) if neighbour.proxy else (uapi.NUD_PERMANENT, 0)
    attributes = {uapi.NDA_DST: socket.inet_pton(neighbour.family, neighbour.address)}
    if neighbour.hardware_address:
        attributes[uapi.NDA_LLADDR] = mac(neighbour.hardware_address)
    return NDMSG.pack(neighbour.family, ifindex, state, flags, 0) + pack(attributes)
