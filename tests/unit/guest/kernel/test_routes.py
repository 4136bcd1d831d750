"""Routes that the kernel learns of routers: stood in for until the router speaks again."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import cast

import pytest

from guestagent.guest.kernel import routes, settings
from guestagent.netlink import uapi
from guestagent.netlink.codec import NetlinkMessage, u32, unpack
from guestagent.netlink.rtnetlink import RtnetlinkSocket

ROUTER = socket.inet_pton(socket.AF_INET6, "fe80::1")
FIXED = struct.Struct("=BBBBBBBBI")
BY_RA, STATIC = 9, 4


class Wire:
    """An RtnetlinkSocket with one default route through link 2; keeps what it is sent."""

    def __init__(self, protocol: int) -> None:
        self._fixed = FIXED.pack(socket.AF_INET6, 0, 0, 0, 254, protocol, 0, 1, 0)
        self.sent: list[dict[int, bytes]] = []

    def dump(self, _what: str, kind: int, request: bytes, _size: int) -> list[NetlinkMessage]:
        if (kind, request[0]) != (uapi.RTM_GETROUTE, socket.AF_INET6):
            return []
        attributes = {
            uapi.RTA_OIF: u32(2),
            uapi.RTA_GATEWAY: ROUTER,
            uapi.RTA_PRIORITY: u32(1024),
        }
        return [NetlinkMessage(fixed=self._fixed, attributes=attributes)]

    def send(
        self, _what: str, _kind: int, payload: bytes, _flags: int = 0, *, ignored: object
    ) -> None:
        self.sent.append(unpack(payload[FIXED.size :]))


@pytest.mark.parametrize(
    ("protocol", "hears_routers", "metric"),
    [(BY_RA, True, 1025), (BY_RA, False, 1024), (STATIC, True, 1024)],
)
def test_a_route_to_a_router_leaves_its_place_to_the_kernel_on_the_other_link(
    protocol: int, metric: int, *, hears_routers: bool
) -> None:
    wire = Wire(protocol)
    rtnetlink = cast("RtnetlinkSocket", wire)
    (route,) = routes.routes(rtnetlink, 2, hears_routers=hears_routers)
    routes.put_route(rtnetlink, 3, route)
    routes.delete_route(rtnetlink, 2, route)
    put, deleted = wire.sent
    assert (put[uapi.RTA_PRIORITY], put[uapi.RTA_GATEWAY]) == (u32(metric), ROUTER)
    assert deleted[uapi.RTA_PRIORITY] == u32(1024)


@pytest.mark.parametrize(
    ("accept_ra", "forwarding", "hears"),
    [
        *(("0", "0", False), ("1", "0", True), ("2", "0", True)),
        *(("1", "1", False), ("2", "1", True), (None, "0", False)),
    ],
)
def test_whether_the_kernel_hears_routers(
    tmp_path: Path, accept_ra: str | None, forwarding: str, *, hears: bool
) -> None:
    directory = tmp_path / "ipv6/conf/ens2"
    directory.mkdir(parents=True)
    (directory / "forwarding").write_text(f"{forwarding}\n")
    if accept_ra is not None:
        (directory / "accept_ra").write_text(f"{accept_ra}\n")
    assert settings.hears_routers("ens2", tmp_path) is hears
