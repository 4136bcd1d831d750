"""Hides NICs in an empty network namespace that this process alone holds.

The namespace has no name, only an open descriptor. It therefore ends with the process, however
that ends, and the kernel returns the NICs in it to the initial network namespace under their
former names (K: net/core/dev.c, default_device_exit_net (6.12)).
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from guestagent.errors import SystemLacksError
from guestagent.guest.kernel.netlink import NetlinkKernel
from guestagent.netlink.codec import u32
from guestagent.netlink.uapi import IFLA_NET_NS_FD

CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
_OWN_NAMESPACE = Path("/proc/self/ns/net")


class HidingKernel(NetlinkKernel):
    """The kernel with a namespace for hidden NICs, which lives as long as this object.

    :raise SystemLacksError: the kernel has no network namespaces, or CAP_SYS_ADMIN is missing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._hidden = _empty_namespace()

    def hide(self, ifindex: int) -> None:
        """Move a NIC to the namespace. Raises KernelError; the NIC then stays in its namespace."""
        self._change(f"hide link {ifindex}", ifindex, {IFLA_NET_NS_FD: u32(self._hidden)})

    def close(self) -> None:
        """Return the hidden NICs and close the socket."""
        os.close(self._hidden)
        super().close()


def _empty_namespace() -> int:
    """Return a descriptor of a new network namespace; this thread stays in its own.

    ctypes, because os.unshare and os.setns came with Python 3.12.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open(_OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(libc.unshare(CLONE_NEWNET), "make a network namespace")
        made = os.open(_OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
        _check(libc.setns(home, CLONE_NEWNET), "return from a new network namespace")
    finally:
        os.close(home)
    return made


def _check(result: int, what: str) -> None:
    if result != 0:
        reason = os.strerror(ctypes.get_errno())
        raise SystemLacksError(
            f"could not {what}: {reason}",
            hint="run it with CAP_SYS_ADMIN, as guestagent-hide.service does, on a kernel with"
            " CONFIG_NET_NS",
        )
