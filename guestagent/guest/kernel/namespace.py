"""A place where nobody sees a NIC: an empty network namespace that this process alone holds.

Nothing names the namespace but an open descriptor, so it ends with the process, however that
ends, and the kernel then gives the NICs in it back to the namespace that the system started in,
under the names that they had (K: net/core/dev.c, default_device_exit_net (6.12)).
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from guestagent.errors import SystemLacksError
from guestagent.guest.kernel import encode
from guestagent.guest.kernel.netlink import NetlinkKernel

CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
_OWN_NAMESPACE = Path("/proc/self/ns/net")


class HidingKernel(NetlinkKernel):
    """The kernel with a hideaway; it is made, and ends, with this object.

    :raise SystemLacksError: the kernel has no network namespaces, or CAP_SYS_ADMIN is missing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._hideaway = _empty_namespace()

    def hide(self, ifindex: int) -> None:
        """Take a NIC out of sight. Raises KernelError; the NIC is then where it was."""
        self._change(f"hide link {ifindex}", ifindex, encode.namespace(self._hideaway))

    def close(self) -> None:
        """Give back what is hidden, and close the socket."""
        os.close(self._hideaway)
        super().close()


def _empty_namespace() -> int:
    """Return a descriptor of a new network namespace, leaving this thread where it is.

    ctypes, because os.unshare and os.setns came with Python 3.12.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open(_OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _done(libc.unshare(CLONE_NEWNET), "make a network namespace")
        made = os.open(_OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
        _done(libc.setns(home, CLONE_NEWNET), "return from a new network namespace")
    finally:
        os.close(home)
    return made


def _done(result: int, what: str) -> None:
    if result != 0:
        said = os.strerror(ctypes.get_errno())
        raise SystemLacksError(
            f"could not {what}: {said}",
            hint="it needs CAP_SYS_ADMIN, which guestagent-hide.service has, and a kernel with"
            " CONFIG_NET_NS",
        )
