"""Having the kernel tell everybody of a link again, which stays as it is."""

from __future__ import annotations

import fcntl
import socket
import struct

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_ALLMULTI = 0x200
_IFREQ = struct.Struct("=16sH22x")
"""K: include/uapi/linux/if.h, struct ifreq (6.12)."""


def touch(name: str) -> None:
    """Change a link and take that back at once: two messages to who listens. Raises OSError.

    It receives multicast that nobody joined for a moment: what is its own is counted apart from
    what others want of it (K: net/core/dev.c, __dev_change_flags (6.12)).
    """
    # Any socket does, and the service has this family (K: net/socket.c, sock_ioctl (6.12)).
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asked:
        answer = fcntl.ioctl(asked, _SIOCGIFFLAGS, _IFREQ.pack(name.encode(), 0))
        _, flags = _IFREQ.unpack(answer)
        for wanted in (flags ^ _IFF_ALLMULTI, flags):
            fcntl.ioctl(asked, _SIOCSIFFLAGS, _IFREQ.pack(name.encode(), wanted))
