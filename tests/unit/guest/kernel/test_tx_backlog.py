"""Packets queued for transmission, as queueing disciplines and drivers report them."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import cast

import pytest

from guestagent.guest.kernel.tx_backlog import tx_backlog
from guestagent.netlink import uapi
from guestagent.netlink.codec import NetlinkMessage, pack
from guestagent.netlink.rtnetlink import RtnetlinkSocket


class QdiscDump:
    """A socket that reports one queueing discipline of link 1 and one of link 2."""

    def __init__(self, packets: int) -> None:
        # struct gnet_stats_queue: qlen, backlog, drops, requeues, overlimits.
        statistics = pack({uapi.TCA_STATS_QUEUE: struct.pack("=5I", packets, 0, 9, 9, 9)})
        self._attributes = {uapi.TCA_STATS2: statistics}

    def dump(self, _what: str, _kind: int, _request: bytes, _size: int) -> list[NetlinkMessage]:
        return [
            NetlinkMessage(
                fixed=struct.pack("=BxxxiIII", 0, link, 0, 0, 0), attributes=self._attributes
            )
            for link in (1, 2)
        ]


@pytest.mark.parametrize(("packets", "in_flight"), [(0, 0), (3, 0), (0, 1514), (3, 1514)])
def test_queued_packets_and_bytes_in_rings_count_and_former_drops_do_not(
    tmp_path: Path, packets: int, in_flight: int
) -> None:
    rings = tmp_path / socket.if_indextoname(1) / "queues" / "tx-0" / "byte_queue_limits"
    rings.mkdir(parents=True)
    (rings / "inflight").write_text(f"{in_flight}\n")
    rtnetlink = cast("RtnetlinkSocket", QdiscDump(packets))
    assert tx_backlog(rtnetlink, 1, tmp_path) == packets + in_flight
