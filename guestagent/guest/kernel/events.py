"""A socket that becomes readable when links, addresses or routes change.

Events only say that something changed: a full observation follows, so a lost
event costs nothing and their content is not read. An overflow (ENOBUFS) is one
more event. rtnetlink(7), netlink(7).
"""

from __future__ import annotations

import errno
import socket

_RTMGRP_LINK = 0x1
_RTMGRP_IPV4_IFADDR = 0x10
_RTMGRP_IPV6_IFADDR = 0x100
_RECEIVE_BUFFER_BYTES = 1 << 20


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

    def drain(self) -> None:
        """Take all pending events."""
        while True:
            try:
                self._socket.recv(65536)
            except BlockingIOError:
                return
            except OSError as error:
                # Lost events say no more than an event does.
                if error.errno != errno.ENOBUFS:
                    raise

    def close(self) -> None:
        """End the subscription."""
        self._socket.close()
