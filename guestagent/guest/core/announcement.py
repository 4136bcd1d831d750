"""Frames that announce the present port of a guest's addresses to the network. Pure.

Three kinds for each interface, which is the bond or a VLAN above it: a RARP
without an IP address, which teaches switches the MAC at once (as QEMU's own
announcement does, Q: net/announce.c, announce_self_create (10.0), but in every
VLAN), a gratuitous ARP for each IPv4 address (RFC 5227, section 2.3) and an
unsolicited neighbour advertisement for each IPv6 address (RFC 4861, section
7.2.6), which correct the neighbours' caches.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from guestagent.guest.core.addressing import Address
from guestagent.guest.core.link import Link
from guestagent.guest.core.snapshot import Snapshot

ETH_P_ARP = 0x0806
ETH_P_RARP = 0x8035
ETH_P_IPV6 = 0x86DD
_BROADCAST = b"\xff" * 6
_ICMPV6 = 58  # K: include/uapi/linux/in6.h
_ALL_NODES = ip_address("ff02::1").packed
_ALL_NODES_MAC = b"\x33\x33\x00\x00\x00\x01"
_ARP_REQUEST = 1
_RARP_REQUEST = 3
_NEIGHBOUR_ADVERTISEMENT = 136
_OVERRIDE = 0x20000000
_TARGET_LINK_LAYER_ADDRESS = 2
_TENTATIVE = 0x40


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """An Ethernet frame and the interface that sends it."""

    ifindex: int
    data: bytes


def interfaces(snapshot: Snapshot, bond: Link) -> tuple[Link, ...]:
    """Return the bond and the VLANs above it, at any depth, that are up."""
    found = [bond]
    for link in found:
        found.extend(above for above in snapshot.above(link) if above.kind == "vlan")
    return tuple(link for link in found if link.up)


def location_frame(link: Link) -> Frame:
    """Return the RARP that teaches switches the port of an interface's MAC."""
    mac = _mac(link.address)
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, _RARP_REQUEST) + (mac + b"\0" * 4) * 2
    return Frame(ifindex=link.ifindex, data=_ethernet(_BROADCAST, mac, ETH_P_RARP, body))


def address_frames(link: Link, addresses: tuple[Address, ...]) -> Iterator[Frame]:
    """Yield the announcement of each address that is not tentative."""
    mac = _mac(link.address)
    for address in addresses:
        if address.flags & _TENTATIVE:
            continue
        packed = ip_address(address.address).packed
        if len(packed) == 4:
            data = _gratuitous_arp(mac, packed)
        else:
            data = _unsolicited_advertisement(mac, packed)
        yield Frame(ifindex=link.ifindex, data=data)


def _gratuitous_arp(mac: bytes, address: bytes) -> bytes:
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, _ARP_REQUEST)
    return _ethernet(_BROADCAST, mac, ETH_P_ARP, head + mac + address + b"\0" * 6 + address)


def _unsolicited_advertisement(mac: bytes, address: bytes) -> bytes:
    option = struct.pack("!BB", _TARGET_LINK_LAYER_ADDRESS, 1) + mac
    body = struct.pack("!I", _OVERRIDE) + address + option
    head = struct.pack("!BB", _NEIGHBOUR_ADVERTISEMENT, 0)
    length = len(body) + 4
    pseudo = address + _ALL_NODES + struct.pack("!I3xB", length, _ICMPV6)
    checksum = _checksum(pseudo + head + b"\0\0" + body)
    message = head + struct.pack("!H", checksum) + body
    ip = struct.pack("!IHBB", 6 << 28, length, _ICMPV6, 255) + address + _ALL_NODES
    return _ethernet(_ALL_NODES_MAC, mac, ETH_P_IPV6, ip + message)


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _ethernet(target: bytes, source: bytes, kind: int, body: bytes) -> bytes:
    return (target + source + struct.pack("!H", kind) + body).ljust(60, b"\0")


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
