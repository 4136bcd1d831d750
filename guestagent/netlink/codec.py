"""Netlink messages and their attributes, from and to bytes.

Attributes that nobody asks for stay bytes, and an attribute of a type that is unknown here is
kept: what is read from one link can be written to another without loss. A truncated message or
attribute ends the reading. netlink(7), rtnetlink(7).
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from guestagent.netlink import uapi

HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence, port."""
IFINFOMSG = struct.Struct("=BxHiII")
"""struct ifinfomsg: family, type, ifindex, flags, change mask."""
NDMSG = struct.Struct("=BxxxiHBB")
"""struct ndmsg: family, ifindex, state, flags, type."""
_ATTRIBUTE = struct.Struct("=HH")
_U32 = struct.Struct("=I")

Attributes = Mapping[int, bytes]
"""Attribute type to value; nested attributes are left packed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetlinkMessage:
    """Body of one message: the fixed structure of its type, and its attributes in their order."""

    fixed: bytes
    attributes: dict[int, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawMessage:
    """One message of a datagram, its body not yet decoded."""

    kind: int
    flags: int
    sequence: int
    body: bytes

    def decode(self, fixed_size: int) -> NetlinkMessage:
        """Split the body into the fixed structure of ``fixed_size`` bytes and the attributes."""
        attributes = unpack(self.body, aligned(fixed_size))
        return NetlinkMessage(fixed=self.body[:fixed_size], attributes=attributes)


def messages(datagram: bytes) -> Iterator[RawMessage]:
    """Yield the messages of a datagram."""
    at = 0
    while at + HEADER.size <= len(datagram):
        size, kind, flags, sequence, _ = HEADER.unpack_from(datagram, at)
        if size < HEADER.size:
            break
        body = datagram[at + HEADER.size : at + size]
        yield RawMessage(kind=kind, flags=flags, sequence=sequence, body=body)
        at += aligned(size)


def link_message(
    ifindex: int, attributes: Attributes = MappingProxyType({}), *, up: bool | None = None
) -> bytes:
    """Encode a request about a link; ``up`` None keeps it up or down."""
    flags, change = (0, 0) if up is None else (uapi.IFF_UP if up else 0, uapi.IFF_UP)
    return IFINFOMSG.pack(socket.AF_UNSPEC, 0, ifindex, flags, change) + pack(attributes)


def pack(attributes: Attributes) -> bytes:
    """Encode attributes, each padded to four bytes."""
    parts = []
    for kind, value in attributes.items():
        size = _ATTRIBUTE.size + len(value)
        parts.append(_ATTRIBUTE.pack(size, kind) + value + bytes(aligned(size) - size))
    return b"".join(parts)


def unpack(data: bytes, at: int = 0) -> dict[int, bytes]:
    """Decode the attributes from offset ``at`` on; of several with one type the last is kept."""
    return dict(iter_attributes(data, at))


def iter_attributes(data: bytes, at: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of each attribute from offset ``at`` on."""
    while at + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if not _ATTRIBUTE.size <= size <= len(data) - at:
            break
        yield kind & uapi.NLA_TYPE_MASK, data[at + _ATTRIBUTE.size : at + size]
        at += aligned(size)


def u8(value: int) -> bytes:
    """Encode an unsigned 8-bit number."""
    return bytes([value])


def u32(value: int) -> bytes:
    """Encode an unsigned 32-bit number."""
    return _U32.pack(value)


def string(value: str) -> bytes:
    """Encode a string with its terminating NUL, as the file system encoding does (PEP 383)."""
    return value.encode(errors="surrogateescape") + b"\0"


def mac(value: str) -> bytes:
    """Encode a link-layer address, hexadecimal with colons."""
    return bytes.fromhex(value.replace(":", ""))


def number(found: Attributes, kind: int) -> int | None:
    """Return an unsigned number of any width, or None without the attribute."""
    value = found.get(kind)
    return int.from_bytes(value, sys.byteorder) if value else None


def ip_address(family: int, found: Attributes, kind: int) -> str | None:
    """Return an IP address, or None without the attribute."""
    value = found.get(kind)
    return None if value is None else socket.inet_ntop(family, value)


def text(found: Attributes, kind: int) -> str | None:
    """Return a string, or None without the attribute."""
    value = found.get(kind)
    return None if value is None else _text(value)


def texts(data: bytes, kind: int) -> tuple[str, ...]:
    """Return every string of one type in packed attributes."""
    return tuple(_text(value) for found, value in iter_attributes(data) if found == kind)


def aligned(size: int) -> int:
    """Return a size rounded up to the alignment of netlink, four bytes."""
    return (size + 3) & ~3


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
