"""Sends complete Ethernet frames (packet(7)); needs CAP_NET_RAW."""

from __future__ import annotations

import logging
import socket

from guestagent.guest.core.announcement import Frame

_log = logging.getLogger("guestagent.packet")


def send(frames: tuple[Frame, ...]) -> int:
    """Send frames and return the number sent; a frame that an interface refuses is logged.

    Raises OSError if the socket cannot be opened.
    """
    sent = 0
    # Protocol 0: the socket receives nothing.
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        for frame in frames:
            try:
                sock.sendto(frame.data, (socket.if_indextoname(frame.ifindex), 0))
                sent += 1
            except OSError as error:
                _log.warning("link %s cannot announce: %s, ignoring", frame.ifindex, error)
    return sent
