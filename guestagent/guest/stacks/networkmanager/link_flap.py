"""Link notifications on demand: the kernel announces a link again, and the link stays as it is."""

from __future__ import annotations

import fcntl
import socket
import struct

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_ALLMULTI = 0x200
_IFREQ = struct.Struct("=16sH22x")
"""K: include/uapi/linux/if.h, struct ifreq (6.12)."""


def flap(name: str) -> None:
    """Change a flag of a link and change it back: two notifications. Raises OSError.

    For a moment the link receives all multicast. The kernel counts this flag of user space apart
    from the requests of others (K: net/core/dev.c, __dev_change_flags (6.12)).
    """
    # Any socket does, and the service has this family (K: net/socket.c, sock_ioctl (6.12)).
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as control:
        answer = fcntl.ioctl(control, _SIOCGIFFLAGS, _IFREQ.pack(name.encode(), 0))
        _, flags = _IFREQ.unpack(answer)
        for requested in (flags ^ _IFF_ALLMULTI, flags):
            fcntl.ioctl(control, _SIOCSIFFLAGS, _IFREQ.pack(name.encode(), requested))
