"""One rtnetlink socket: requests and dumps. netlink(7), rtnetlink(7)."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Collection, Iterator
from typing import Self

from guestagent.errors import GuestAgentError
from guestagent.netlink import uapi
from guestagent.netlink.codec import HEADER, NetlinkMessage, RawMessage, messages

_ERROR = struct.Struct("=i")
_DUMP_TRIES = 20
_TIMEOUT_S = 10.0
_RECEIVE_BYTES = 1 << 18

Ignored = Collection[int]
"""errnos that mean that the kernel has the wanted state already."""


class RtnetlinkSocket:
    """A socket whose requests are answered before the next one is sent; for one thread.

    A failed request raises the result of ``error``, which gets the message and the errno.
    ``what`` completes the message "could not …".
    """

    def __init__(self, error: Callable[[str, int], GuestAgentError]) -> None:
        self._error = error
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.settimeout(_TIMEOUT_S)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(
        self, what: str, kind: int, payload: bytes, flags: int = 0, *, ignored: Ignored = ()
    ) -> None:
        """Send a change and wait for its acknowledgement; an ignored errno counts as one."""
        flags |= uapi.NLM_F_REQUEST | uapi.NLM_F_ACK
        for _ in self._exchange(what, kind, payload, flags, ignored):
            pass

    def get(self, what: str, kind: int, payload: bytes, fixed_size: int) -> NetlinkMessage | None:
        """Return one object, or None if the kernel answers ENODEV."""
        found: NetlinkMessage | None = None
        flags = uapi.NLM_F_REQUEST | uapi.NLM_F_ACK
        for message in self._exchange(what, kind, payload, flags, (errno.ENODEV,)):
            found = message.decode(fixed_size)
        return found

    def dump(self, what: str, kind: int, payload: bytes, fixed_size: int) -> list[NetlinkMessage]:
        """Return all objects; a dump that a concurrent change interrupted is repeated."""
        for _ in range(_DUMP_TRIES):
            found = list(self._exchange(what, kind, payload, uapi.NLM_F_REQUEST | uapi.NLM_F_DUMP))
            if not any(message.flags & uapi.NLM_F_DUMP_INTR for message in found):
                return [m.decode(fixed_size) for m in found if m.kind != uapi.NLMSG_DONE]
        raise self._error(f"could not {what}", errno.EAGAIN)

    def _exchange(
        self, what: str, kind: int, payload: bytes, flags: int, ignored: Ignored = ()
    ) -> Iterator[RawMessage]:
        """Send a request and yield its answers; an ignored errno ends them like success."""
        code = 0
        try:
            sequence = self._put(kind, payload, flags)
            for message in self._answers(sequence):
                if message.kind == uapi.NLMSG_ERROR:
                    code = -_ERROR.unpack_from(message.body)[0]
                    break
                yield message
                if message.kind == uapi.NLMSG_DONE:
                    return
        except OSError as error:
            raise self._error(f"could not {what}", error.errno or errno.EIO) from error
        if code and code not in ignored:
            raise self._error(f"could not {what}", code)

    def _put(self, kind: int, payload: bytes, flags: int) -> int:
        self._sequence += 1
        size = HEADER.size + len(payload)
        self._socket.send(HEADER.pack(size, kind, flags, self._sequence, 0) + payload)
        return self._sequence

    def _answers(self, sequence: int) -> Iterator[RawMessage]:
        """Yield the answers to one request; late answers to earlier requests are skipped."""
        while True:
            for message in messages(self._socket.recv(_RECEIVE_BYTES)):
                if message.sequence == sequence:
                    yield message
