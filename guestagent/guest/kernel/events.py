"""A socket that becomes readable when links or addresses change.

Events only mark the observation as stale: a full one follows, so a lost event costs nothing.
One thing is an event by nature and is read from them: the request of a driver for announcements
(NETDEV_NOTIFY_PEERS), as virtio-net makes it after a migration. rtnetlink(7), netlink(7).
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

from guestagent.netlink import uapi
from guestagent.netlink.codec import IFINFOMSG, messages, number

_GROUPS = uapi.RTMGRP_LINK | uapi.RTMGRP_IPV4_IFADDR | uapi.RTMGRP_IPV6_IFADDR
_RECEIVE_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """Content of the events since the last call."""

    announcing: frozenset[int] = frozenset()
    """ifindexes of the links whose driver asked for announcements."""
    overflown: bool = False
    """Events were lost: any link may have asked."""


class LinkEvents:
    """Subscription to rtnetlink's link and address groups."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        self._socket.bind((0, _GROUPS))

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        return self._socket.fileno()

    def drain(self) -> Drained:
        """Take all pending events."""
        announcing: set[int] = set()
        overflown = False
        while True:
            try:
                announcing |= announcement_requests(self._socket.recv(65536))
            except BlockingIOError:
                return Drained(announcing=frozenset(announcing), overflown=overflown)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                overflown = True

    def close(self) -> None:
        """End the subscription."""
        self._socket.close()


def announcement_requests(datagram: bytes) -> set[int]:
    """Return the ifindexes for which a datagram of rtnetlink carries NOTIFY_PEERS.

    K: include/uapi/linux/if_link.h, IFLA_EVENT_NOTIFY_PEERS; net/core/rtnetlink.c,
    rtnetlink_event (6.12). A truncated datagram is read up to its end.
    """
    found: set[int] = set()
    for message in messages(datagram):
        if message.kind == uapi.RTM_NEWLINK and len(message.body) >= IFINFOMSG.size:
            link = message.decode(IFINFOMSG.size)
            if number(link.attributes, uapi.IFLA_EVENT) == uapi.IFLA_EVENT_NOTIFY_PEERS:
                found.add(IFINFOMSG.unpack(link.fixed)[2])
    return found
