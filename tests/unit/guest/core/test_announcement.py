"""Announcements: frames as the standards draw them, for the bond and what is above it."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

from guestagent.guest.core.addressing import Address
from guestagent.guest.core.announcement import Frame, address_frames, interfaces, location_frame
from guestagent.guest.core.link import Link
from guestagent.guest.core.policy import BondOptions
from guestagent.guest.core.snapshot import Snapshot
from guestagent.guest.service.announcer import Announcer

MAC = "52:54:00:12:34:56"
BOND = Link(ifindex=5, name="bond0", address=MAC, kind="bond", up=True)
IPV4 = Address(family=socket.AF_INET, address="192.0.2.10", prefix_length=24)
IPV6 = Address(family=socket.AF_INET6, address="2001:db8::a", prefix_length=64)


def above(lower: Link, ifindex: int, *, kind: str = "vlan", up: bool = True) -> Link:
    name = f"{lower.name}.{ifindex}"
    return Link(ifindex=ifindex, name=name, address=MAC, kind=kind, up=up, lower=lower.ifindex)


def test_a_gratuitous_arp_names_the_address_as_sender_and_target() -> None:
    (frame,) = address_frames(BOND, (IPV4,))
    assert frame.ifindex == 5
    assert frame.data.hex() == (
        "ffffffffffff5254001234560806"
        "0001080006040001"
        "525400123456c000020a000000000000c000020a"
    ).ljust(120, "0")  # fmt: skip


def test_an_unsolicited_advertisement_overrides_and_carries_the_mac() -> None:
    (frame,) = address_frames(BOND, (IPV6,))
    data = frame.data
    assert data[:14].hex() == "33330000000152540012345686dd"
    ip, icmp = data[14:54], data[54:]
    assert (ip[7], ip[6], int.from_bytes(ip[4:6])) == (255, socket.IPPROTO_ICMPV6, 32)
    assert ip[8:24] == socket.inet_pton(socket.AF_INET6, "2001:db8::a")
    assert ip[24:40] == socket.inet_pton(socket.AF_INET6, "ff02::1")
    assert (icmp[0], icmp[1], icmp[4]) == (136, 0, 0x20)
    assert icmp[8:24] == ip[8:24]
    assert icmp[24:32].hex() == "0201525400123456"
    pseudo = ip[8:40] + len(icmp).to_bytes(4) + bytes([0, 0, 0, 58])
    words = pseudo + icmp
    total = sum(int.from_bytes(words[at : at + 2]) for at in range(0, len(words), 2))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF, "the checksum holds"


def test_a_tentative_address_is_not_announced() -> None:
    assert list(address_frames(BOND, (replace(IPV6, flags=0x40),))) == []


def test_the_location_frame_teaches_the_mac_without_an_address() -> None:
    data = location_frame(BOND).data
    assert data[:14].hex() == "ffffffffffff5254001234568035"
    assert len(data) == 60


def test_vlans_above_the_bond_are_announced_at_any_depth_while_they_are_up() -> None:
    vlan, inner = above(BOND, 6), None
    inner = above(vlan, 7)
    down, macvlan = above(BOND, 8, up=False), above(BOND, 9, kind="macvlan")
    snapshot = Snapshot(links=(BOND, vlan, inner, down, macvlan))
    assert interfaces(snapshot, BOND) == (BOND, vlan, inner)


def test_switches_are_taught_before_addresses_and_repeats_follow() -> None:
    batches: list[tuple[Frame, ...]] = []

    all_sent = asyncio.Event()

    def send(frames: tuple[Frame, ...]) -> int:
        batches.append(frames)
        if len(batches) == 4:
            all_sent.set()
        return len(frames)

    async def addresses(ifindex: int) -> tuple[Address, ...]:
        return (IPV4, IPV6) if ifindex == BOND.ifindex else ()

    async def run() -> int:
        options = BondOptions(announcements=3, announcement_spacing_ms=1)
        announcer = Announcer(options=lambda _: options, addresses=addresses, send=send)
        count = await announcer.announce(Snapshot(links=(BOND,)), BOND)
        await asyncio.wait_for(all_sent.wait(), 5)
        await announcer.stop()
        return count

    assert asyncio.run(run()) == 3
    kinds = [[frame.data[12:14].hex() for frame in batch] for batch in batches]
    assert kinds == [["8035"], *[["0806", "86dd"]] * 3]
