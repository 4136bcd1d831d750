"""Settings of one link below /proc/sys/net: read all, write a few.

There is no other interface: rtnetlink reports some of them (RTM_GETNETCONF, IFLA_AF_SPEC) and
accepts almost none. A kernel without IPv6 has fewer.
K: Documentation/networking/ip-sysctl.rst (6.12).
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from guestagent.guest.core.addressing import ACCEPT_RA, RP_FILTER, Setting
from guestagent.guest.kernel.protocol import KernelError
from guestagent.guest.kernel.sysfs import read, read_number

SYSCTL_NET = Path("/proc/sys/net")
_GROUPS = ("ipv4/conf", "ipv4/neigh", "ipv6/conf", "ipv6/neigh")
_NOT_CARRIED = {
    # State of the link, or read-only.
    *("ipv6/conf/mtu", "ipv4/conf/mc_forwarding", "ipv6/conf/mc_forwarding"),
    # Address generation is set over rtnetlink; writing a secret would change it too.
    *("ipv6/conf/addr_gen_mode", "ipv6/conf/stable_secret"),
    # The same value in a coarser unit, which would overwrite the finer one.
    *("ipv4/neigh/base_reachable_time", "ipv4/neigh/retrans_time"),
    *("ipv6/neigh/base_reachable_time", "ipv6/neigh/retrans_time"),
    *("ipv4/neigh/unres_qlen", "ipv6/neigh/unres_qlen"),
}


def settings(name: str, root: Path = SYSCTL_NET) -> frozenset[Setting]:
    """Return the settings of a link; those of ``default`` apply to new links."""
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
                found.add(Setting(key=full, value=_value(f"{directory}/{key}")))
    return frozenset(found)


def _value(path: str) -> str:
    try:
        return read(path).strip()
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
    """Have a link ignore router advertisements; a kernel without IPv6 is no error."""
    try:
        write_setting(name, Setting(key=ACCEPT_RA, value="0"), root)
    except KernelError as error:
        if error.code != errno.ENOENT:
            raise


def hears_routers(name: str, root: Path = SYSCTL_NET) -> bool:
    """Whether the kernel itself accepts router advertisements on a link.

    On a link that forwards it needs accept_ra 2 (ip-sysctl.rst, accept_ra).
    """
    directory = root / "ipv6/conf" / name
    accepts, forwards = (read_number(directory / key) for key in ("accept_ra", "forwarding"))
    if accepts is None or forwards is None:
        return False
    return accepts >= 2 if forwards else accepts >= 1


def has_rp_filter(name: str, root: Path = SYSCTL_NET) -> bool:
    """Whether a link may drop packets whose replies would leave through another (rp_filter).

    The larger of the values for ``all`` and for the link applies (ip-sysctl.rst). The loose mode
    drops them too on a link without IPv4 address, such as a NIC that has lost its addresses and a
    bond that has none yet (K: net/ipv4/fib_frontend.c, __fib_validate_source, no_addr (6.12)).
    """
    return max(_rp_filter("all", root), _rp_filter(name, root)) > 0


def loosen_rp_filter(name: str, root: Path = SYSCTL_NET) -> None:
    """Have a link accept packets whose replies leave through another, as far as ``all`` permits.

    With a filter set for ``all``, the loose mode is the least that a link can have.
    """
    least = "2" if _rp_filter("all", root) else "0"
    write_setting(name, Setting(key=RP_FILTER, value=least), root)


def _rp_filter(name: str, root: Path) -> int:
    """Return the value of a link, 0 for a link without IPv4."""
    return read_number(root / "ipv4/conf" / name / "rp_filter") or 0
