"""rtnetlink in bytes: what is carried from one link to another must stay as it is.

pyroute2 drops attributes that its version does not know, in silence: the metric
of an address, the next hop of a route in another family. What is moved is
therefore read and written here as the kernel spells it; and what is read at every
event, in a seventh of the time. rtnetlink(7), netlink(7).
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from guestagent.guest.kernel.protocol import KernelError

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
_NLM_F_DUMP_INTR = 0x10
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLA_TYPE = 0x3FFF
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_CODE = struct.Struct("=i")
_U32 = struct.Struct("=I")
_DUMP_TRIES = 20
_TIMEOUT_S = 10.0

Attributes = Mapping[int, bytes]
"""Attribute type to value; nested ones are left packed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """The answer to a request: its fixed part and its attributes, in their order."""

    fixed: bytes
    attributes: dict[int, bytes]


class RtNetlink:
    """One socket; requests are answered before the next is sent."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.settimeout(_TIMEOUT_S)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(self, what: str, kind: int, payload: bytes, flags: int = 0) -> None:
        """Make a change. Raises KernelError, in which ``what`` says what was to be done."""
        try:
            sequence = self._put(kind, payload, NLM_F_REQUEST | NLM_F_ACK | flags)
            for _, message_kind, body in self._answers(sequence):
                if message_kind == _NLMSG_ERROR:
                    _raise_refusal(what, body)
                    return
        except OSError as error:
            raise KernelError(f"could not {what}", error.errno or errno.EIO) from error

    def dump(self, what: str, kind: int, payload: bytes, fixed_size: int) -> list[Message]:
        """Return all answers, asking again when a change tore them. Raises KernelError."""
        try:
            for _ in range(_DUMP_TRIES):
                found = self._dump_once(what, kind, payload, fixed_size)
                if found is not None:
                    return found
        except OSError as error:
            raise KernelError(f"could not {what}", error.errno or errno.EIO) from error
        raise KernelError(f"could not {what}", errno.EAGAIN)

    def get(self, what: str, kind: int, payload: bytes, fixed_size: int) -> Message | None:
        """Return the one thing that is asked for, None where it is not. Raises KernelError."""
        found: Message | None = None
        try:
            sequence = self._put(kind, payload, NLM_F_REQUEST | NLM_F_ACK)
            for _, message_kind, body in self._answers(sequence):
                if message_kind == _NLMSG_ERROR:
                    _raise_refusal(what, body)
                    return found
                found = _message(body, fixed_size)
        except KernelError as error:
            if error.code != errno.ENODEV:
                raise
        except OSError as error:
            raise KernelError(f"could not {what}", error.errno or errno.EIO) from error
        return None

    def _dump_once(
        self, what: str, kind: int, payload: bytes, fixed_size: int
    ) -> list[Message] | None:
        found: list[Message] = []
        torn = False
        sequence = self._put(kind, payload, NLM_F_REQUEST | NLM_F_DUMP)
        for flags, message_kind, body in self._answers(sequence):
            torn = torn or bool(flags & _NLM_F_DUMP_INTR)
            if message_kind == _NLMSG_DONE:
                return None if torn else found
            if message_kind == _NLMSG_ERROR:
                _raise_refusal(what, body)
            found.append(_message(body, fixed_size))
        return None

    def _put(self, kind: int, payload: bytes, flags: int) -> int:
        self._sequence += 1
        size = _HEADER.size + len(payload)
        self._socket.send(_HEADER.pack(size, kind, flags, self._sequence, 0) + payload)
        return self._sequence

    def _answers(self, sequence: int) -> Iterator[tuple[int, int, bytes]]:
        """Yield flags, kind and body of what answers a request; older answers are passed over."""
        while True:
            data = self._socket.recv(1 << 18)
            at = 0
            while at + _HEADER.size <= len(data):
                size, kind, flags, answered, _ = _HEADER.unpack_from(data, at)
                if size < _HEADER.size:
                    break
                if answered == sequence:
                    yield flags, kind, data[at + _HEADER.size : at + size]
                at += aligned(size)


def _message(body: bytes, fixed_size: int) -> Message:
    return Message(fixed=body[:fixed_size], attributes=unpacked(body, aligned(fixed_size)))


def packed(attributes: Mapping[int, bytes]) -> bytes:
    """Return attributes as the kernel reads them."""
    parts = []
    for kind, value in attributes.items():
        size = _ATTRIBUTE.size + len(value)
        parts.append(_ATTRIBUTE.pack(size, kind) + value + bytes(aligned(size) - size))
    return b"".join(parts)


def unpacked(data: bytes, at: int = 0) -> dict[int, bytes]:
    """Return the attributes from ``at`` on; data that ends early is read as far as it goes."""
    return dict(_attributes(data, at))


def _attributes(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size:
            break
        yield kind & _NLA_TYPE, data[at + _ATTRIBUTE.size : at + size]
        at += aligned(size)


def u32(value: int) -> bytes:
    """Return a number as an attribute's value."""
    return _U32.pack(value)


def number(attributes: Attributes, kind: int) -> int | None:
    """Return an attribute that is an unsigned 32-bit number, or None without it."""
    value = attributes.get(kind)
    return None if value is None or len(value) < _U32.size else int(_U32.unpack_from(value)[0])


def ip_address(family: int, attributes: Attributes, kind: int) -> str | None:
    """Return an attribute that is an IP address, or None without it."""
    value = attributes.get(kind)
    return None if value is None else socket.inet_ntop(family, value)


def text(attributes: Attributes, kind: int) -> str | None:
    """Return an attribute that is a name, or None without it."""
    value = attributes.get(kind)
    return None if value is None else _text(value)


def texts(data: bytes, kind: int) -> tuple[str, ...]:
    """Return the names in an attribute that may be there more than once."""
    return tuple(_text(value) for found, value in _attributes(data, 0) if found == kind)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def aligned(size: int) -> int:
    """Return a size as netlink pads it."""
    return (size + 3) & ~3


def _raise_refusal(what: str, body: bytes) -> None:
    code = -_CODE.unpack_from(body)[0]
    if code:
        raise KernelError(f"could not {what}", code)
