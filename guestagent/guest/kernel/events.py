"""A socket that becomes readable when links or addresses change.

Events only say that something changed: a full observation follows, so a lost
event costs nothing. One thing is an event by nature and is read from them: a
driver that asks for announcements (NETDEV_NOTIFY_PEERS), as virtio-net does
after a migration. rtnetlink(7), netlink(7).
"""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass

_RTMGRP_LINK = 0x1
_RTMGRP_IPV4_IFADDR = 0x10
_RTMGRP_IPV6_IFADDR = 0x100
_RTM_NEWLINK = 16
_IFLA_EVENT = 44
_IFLA_EVENT_NOTIFY_PEERS = 4
_NLMSGHDR = struct.Struct("=IHHII")
_IFINFOMSG = struct.Struct("=BxHiII")
_RTATTR = struct.Struct("=HH")
_RECEIVE_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What was told since the last time."""

    announcing: frozenset[int] = frozenset()
    """ifindexes whose driver asked for announcements."""
    overflown: bool = False
    """Whether events were lost: any link may have asked."""


class LinkEvents:
    """Subscription to rtnetlink's link and address groups."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        self._socket.bind((0, _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        return self._socket.fileno()

    def drain(self) -> Drained:
        """Take all pending events."""
        announcing: set[int] = set()
        overflown = False
        while True:
            try:
                announcing |= asking_to_announce(self._socket.recv(65536))
            except BlockingIOError:
                return Drained(announcing=frozenset(announcing), overflown=overflown)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                overflown = True

    def close(self) -> None:
        """End the subscription."""
        self._socket.close()


def asking_to_announce(data: bytes) -> set[int]:
    """Return the ifindexes for which a datagram of rtnetlink carries NOTIFY_PEERS.

    K: include/uapi/linux/if_link.h, IFLA_EVENT_NOTIFY_PEERS; net/core/rtnetlink.c,
    rtnetlink_event (6.12). Data that ends early is read as far as it goes.
    """
    found: set[int] = set()
    at = 0
    while at + _NLMSGHDR.size <= len(data):
        length, kind, *_ = _NLMSGHDR.unpack_from(data, at)
        if length < _NLMSGHDR.size:
            break
        begin, end = at + _NLMSGHDR.size, min(at + length, len(data))
        if kind == _RTM_NEWLINK and begin + _IFINFOMSG.size <= end:
            ifindex = _IFINFOMSG.unpack_from(data, begin)[2]
            if _notifies_peers(data, begin + _IFINFOMSG.size, end):
                found.add(ifindex)
        at += _aligned(length)
    return found


def _notifies_peers(data: bytes, at: int, end: int) -> bool:
    while at + _RTATTR.size <= end:
        length, kind = _RTATTR.unpack_from(data, at)
        if length < _RTATTR.size:
            return False
        if kind == _IFLA_EVENT and at + 8 <= end:
            event: int = struct.unpack_from("=I", data, at + _RTATTR.size)[0]
            return event == _IFLA_EVENT_NOTIFY_PEERS
        at += _aligned(length)
    return False


def _aligned(length: int) -> int:
    return (length + 3) & ~3
