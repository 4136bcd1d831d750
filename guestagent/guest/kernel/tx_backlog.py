"""Packets queued for transmission on a link: in its queueing disciplines and in the NIC's rings.

A port goes on sending its backlog after the bond has made another port the active one. A port
that is removed at that moment loses it.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path

from guestagent.guest.kernel.qdisc import qdiscs
from guestagent.guest.kernel.sysfs import SYS_CLASS_NET
from guestagent.netlink import uapi
from guestagent.netlink.codec import unpack
from guestagent.netlink.rtnetlink import RtnetlinkSocket

_QLEN = struct.Struct("=I")


def tx_backlog(rtnetlink: RtnetlinkSocket, ifindex: int, root: Path = SYS_CLASS_NET) -> int:
    """Return the sum of queued packets and of bytes in the rings: 0 if there are none.

    Queueing disciplines count packets (K: net/sched/sch_api.c, tc_fill_qdisc (6.12)). A driver
    with byte queue limits counts the bytes in its rings (K: lib/dynamic_queue_limits.c;
    net/core/net-sysfs.c, bql_show_inflight): e1000e, ixgbevf, iavf and mlx5 have them, igbvf
    has not, and a ring is empty within microseconds. A link that is gone has no backlog.
    """
    return _queued_packets(rtnetlink, ifindex) + _bytes_in_rings(ifindex, root)


def _queued_packets(rtnetlink: RtnetlinkSocket, ifindex: int) -> int:
    statistics = (
        unpack(attributes.get(uapi.TCA_STATS2, b""))
        for _, attributes in qdiscs(rtnetlink, ifindex)
    )
    queues = (found.get(uapi.TCA_STATS_QUEUE, b"") for found in statistics)
    # struct gnet_stats_queue begins with qlen.
    return sum(_QLEN.unpack_from(queue)[0] for queue in queues if len(queue) >= _QLEN.size)


def _bytes_in_rings(ifindex: int, root: Path) -> int:
    try:
        queues = root / socket.if_indextoname(ifindex) / "queues"
        in_flight = [file.read_text() for file in queues.glob("tx-*/byte_queue_limits/inflight")]
    except OSError:
        return 0
    return sum(map(int, in_flight))
