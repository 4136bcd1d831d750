"""The limit of locked memory of the process behind a socket: vfio pins all of a guest's.

vfio counts the pinned pages against RLIMIT_MEMLOCK of the process, unless it has
CAP_IPC_LOCK (K: drivers/vfio/vfio_iommu_type1.c, vfio_lock_acct (6.12)). QMP does
not name the process, so it is the one that has the listening socket open.
"""

from __future__ import annotations

import re
from pathlib import Path

from guestagent.host.sriov.processes import open_files, pids

_PROC = Path("/proc")
_LISTENS = 0x10000  # K: include/uapi/linux/net.h, __SO_ACCEPTCON
_CAP_IPC_LOCK = 14
_LIMIT = re.compile(r"^Max locked memory\s+(\S+)", re.MULTILINE)
_CAPABILITIES = re.compile(r"^CapEff:\s*([0-9a-f]+)", re.MULTILINE)


def lockable_by(socket: Path, *, proc: Path = _PROC) -> tuple[int | None, str]:
    """Return the limit in bytes, None if there is none or it is unknown; and the process."""
    pid = _listener(socket, proc)
    if pid is None:
        return None, "not known: which process serves the socket cannot be seen from here"
    try:
        limit = _LIMIT.search((proc / str(pid) / "limits").read_text())
        capabilities = _CAPABILITIES.search((proc / str(pid) / "status").read_text())
    except OSError as error:
        return None, f"not known: process {pid}: {error.strerror}"
    if capabilities is not None and int(capabilities[1], 16) >> _CAP_IPC_LOCK & 1:
        return None, f"not limited: process {pid} has CAP_IPC_LOCK"
    if limit is None or limit[1] == "unlimited":
        return None, f"not limited: process {pid}"
    return int(limit[1]), f"process {pid}"


def _listener(socket: Path, proc: Path) -> int | None:
    """Return the process that has the listening socket open."""
    wanted = {f"socket:[{inode}]" for inode in _inodes(socket, proc)}
    for pid in pids(proc) if wanted else ():
        if any(each in wanted for each in open_files(proc, pid)):
            return pid
    return None


def _inodes(socket: Path, proc: Path) -> list[str]:
    # Num RefCount Protocol Flags Type St Inode Path
    lines = (proc / "net" / "unix").read_text().splitlines()[1:]
    fields = (line.split(maxsplit=7) for line in lines)
    return [
        each[6]
        for each in fields
        if len(each) == 8 and each[7] == str(socket) and int(each[3], 16) & _LISTENS
    ]
