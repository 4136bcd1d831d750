"""What a link has been given to send and still holds: in its queues, and in the NIC's rings.

A port that is no longer the active one goes on sending what it was given before; taken
away at that moment it takes that with it.
"""

from __future__ import annotations

import socket
from pathlib import Path

from guestagent.guest.kernel.qdisc import qdiscs
from guestagent.guest.kernel.rtnetlink import RtNetlink, number, unpacked
from guestagent.guest.kernel.sysfs import SYS_CLASS_NET

TCA_STATS2, TCA_STATS_QUEUE = 7, 3


def unsent(rtnetlink: RtNetlink, ifindex: int, root: Path = SYS_CLASS_NET) -> int:
    """Return what is held, in packets and bytes together: only 0 has a meaning.

    Queueing disciplines tell their packets (K: net/sched/sch_api.c, tc_fill_qdisc (6.12)),
    a driver the bytes in its rings if it keeps byte queue limits (K: lib/dynamic_queue_limits.c;
    net/core/net-sysfs.c, bql_show_inflight): e1000e, ixgbevf, iavf and mlx5 do, igbvf does
    not, and a ring is empty within microseconds. A link that is gone holds nothing.
    """
    return _queued(rtnetlink, ifindex) + _in_rings(ifindex, root)


def _queued(rtnetlink: RtNetlink, ifindex: int) -> int:
    return sum(
        # struct gnet_stats_queue begins with qlen.
        number(unpacked(attributes.get(TCA_STATS2, b"")), TCA_STATS_QUEUE) or 0
        for _, attributes in qdiscs(rtnetlink, ifindex)
    )


def _in_rings(ifindex: int, root: Path) -> int:
    try:
        queues = root / socket.if_indextoname(ifindex) / "queues"
        told = [file.read_text() for file in queues.glob("tx-*/byte_queue_limits/inflight")]
    except OSError:
        return 0
    return sum(map(int, told))
