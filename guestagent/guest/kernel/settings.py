"""Settings of one link below /proc/sys/net: read all, write a few.

They have no other door: rtnetlink tells some (RTM_GETNETCONF, IFLA_AF_SPEC) and
takes almost none. A kernel without IPv6 has fewer. K: Documentation/networking/
ip-sysctl.rst (6.12).
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from guestagent.guest.core.model import ACCEPT_RA, RP_FILTER, Setting
from guestagent.guest.kernel.protocol import KernelError

SYSCTL_NET = Path("/proc/sys/net")
_VALUE_BYTES = 256
_GROUPS = ("ipv4/conf", "ipv4/neigh", "ipv6/conf", "ipv6/neigh")
_NOT_CARRIED = {
    # A state of the link, or read-only.
    *("ipv6/conf/mtu", "ipv4/conf/mc_forwarding", "ipv6/conf/mc_forwarding"),
    # How IPv6 addresses are made is said over rtnetlink; a secret would change it too.
    *("ipv6/conf/addr_gen_mode", "ipv6/conf/stable_secret"),
    # The same value in a coarser unit; it would undo the finer one.
    *("ipv4/neigh/base_reachable_time", "ipv4/neigh/retrans_time"),
    *("ipv6/neigh/base_reachable_time", "ipv6/neigh/retrans_time"),
    *("ipv4/neigh/unres_qlen", "ipv6/neigh/unres_qlen"),
}


def settings(name: str, root: Path = SYSCTL_NET) -> frozenset[Setting]:
    """Return the settings of a link, or those that a new link gets for ``default``."""
    found: set[Setting] = set()
    for group in _GROUPS:
        directory = root / group / name
        try:
            with os.scandir(directory) as entries:
                keys = [entry.name for entry in entries]
        except FileNotFoundError:
            continue
        for key in keys:
            full = f"{group}/{key}"
            if full not in _NOT_CARRIED and not key.startswith("gc_"):
                found.add(Setting(key=full, value=_read(f"{directory}/{key}")))
    return frozenset(found)


def _read(path: str) -> str:
    """Return the value in a file: a hundred are read at boot, and open() costs four times this."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, _VALUE_BYTES).decode().strip()
        finally:
            os.close(descriptor)
    except OSError as error:
        raise KernelError(f"could not read {path}", error.errno or errno.EIO) from error


def write_setting(name: str, setting: Setting, root: Path = SYSCTL_NET) -> None:
    """Write a setting of a link. Raises KernelError."""
    group, _, key = setting.key.rpartition("/")
    path = root / group / name / key
    try:
        path.write_text(f"{setting.value}\n")
    except OSError as error:
        raise KernelError(
            f"could not write {setting.value} to {path}", error.errno or errno.EIO
        ) from error


def ignore_routers(name: str, root: Path = SYSCTL_NET) -> None:
    """Have a link take no router advertisements; where there is no IPv6 there are none."""
    try:
        write_setting(name, Setting(key=ACCEPT_RA, value="0"), root)
    except KernelError as error:
        if error.code != errno.ENOENT:
            raise


def hears_routers(name: str, root: Path = SYSCTL_NET) -> bool:
    """Whether the kernel itself takes router advertisements on a link.

    Where it forwards, 1 is not enough (ip-sysctl.rst, accept_ra).
    """
    try:
        accepts, forwards = (
            int((root / "ipv6/conf" / name / key).read_text())
            for key in ("accept_ra", "forwarding")
        )
    except (OSError, ValueError):
        return False
    return accepts >= 2 if forwards else accepts >= 1


def is_filtering(name: str, root: Path = SYSCTL_NET) -> bool:
    """Whether a link may drop what would not be answered through it (rp_filter).

    The larger of the values for all links and for this one counts (ip-sysctl.rst). A loose one
    drops it too where the link has no IPv4 address, as a NIC that has lost its own and a bond
    that has none yet (K: net/ipv4/fib_frontend.c, __fib_validate_source, no_addr (6.12)).
    """
    return max(_rp_filter("all", root), _rp_filter(name, root)) > 0


def loosen(name: str, root: Path = SYSCTL_NET) -> None:
    """Let a link take what is answered through another, as far as ``all`` links may.

    Where a filter is set for ``all``, the loose one is the least that a link can have.
    """
    least = "2" if _rp_filter("all", root) else "0"
    write_setting(name, Setting(key=RP_FILTER, value=least), root)


def _rp_filter(name: str, root: Path) -> int:
    """Return the value of a link, 0 for one without IPv4."""
    try:
        return int((root / "ipv4/conf" / name / "rp_filter").read_text())
    except (OSError, ValueError):
        return 0
