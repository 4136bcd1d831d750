"""The part of pyroute2 that both programs need, without the rest: rtnetlink requests.

``import pyroute2`` loads everything the project contains: its database, an
HTTP server, a console, unittest. The agent runs in every guest and at every
boot, and the host helper is called by scripts, so only rtnetlink's messages
and socket are loaded, by standing in for the package's ``__init__`` (measured
with 0.7.2: 0.25 s and 35 MiB become 0.04 s and 16 MiB). Where a release cannot
be taken apart like this, the whole package is loaded instead.
"""

from __future__ import annotations

import errno
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from guestagent.errors import GuestAgentError

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
IFF_UP = 0x1
DUMP_TRIES = 20

Attrs = list[tuple[str, Any]]


def _stand_in() -> None:
    """Register the package without running its ``__init__``."""
    spec = importlib.util.find_spec("pyroute2")
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("pyroute2 is not installed", name="pyroute2")
    package = types.ModuleType("pyroute2")
    package.__path__ = list(spec.submodule_search_locations)
    package.__spec__ = spec
    sys.modules["pyroute2"] = package


@cache
def _opener() -> Callable[[], Any]:
    """Return what opens a socket that is subscribed to nothing.

    Settled once, for the import that fails first may work later. In 0.9 the modules
    need each other and only the larger socket opens itself.
    """
    try:
        from pyroute2.netlink.rtnl.iprsocket import IPRSocket
    except ImportError:
        from pyroute2.iproute.linux import IPRoute

        return lambda: IPRoute(groups=0)

    def bound() -> Any:
        sock = IPRSocket()
        sock.bind(groups=0)
        return sock

    return bound


if "pyroute2" not in sys.modules:
    _stand_in()

from pyroute2.netlink.exceptions import (  # noqa: E402 - after the stand-in
    NetlinkDumpInterrupted,
    NetlinkError,
)
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg  # noqa: E402
from pyroute2.netlink.rtnl.ndmsg import ndmsg  # noqa: E402

__all__ = ["NetlinkDumpInterrupted", "RtSocket", "ifinfmsg", "link_message", "ndmsg", "refused_as"]


class RtSocket:
    """One rtnetlink socket.

    The synchronous socket of pyroute2 0.9 runs an event loop of its own and fails
    inside another one: an instance belongs to one plain thread, which makes it.
    """

    def __init__(self) -> None:
        self._socket = _opener()()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def request(
        self, message: Any, kind: int, flags: int = NLM_F_REQUEST | NLM_F_ACK
    ) -> tuple[Any, ...]:
        """Send one message and return the answers. Raises what ``refused_as`` translates.

        nlm_request_batch is the one request method that works alike in 0.7 and
        0.9. It is a generator in 0.7: draining it is what sends the message.
        """
        message["header"]["type"] = kind
        message["header"]["flags"] = flags
        return tuple(self._socket.nlm_request_batch([message]))

    def dump(self, message: Any, kind: int) -> tuple[Any, ...]:
        """Return all answers to a dump, begun again when a change tore it (NLM_F_DUMP_INTR)."""
        for _ in range(DUMP_TRIES):
            try:
                return self.request(message, kind, NLM_F_REQUEST | NLM_F_DUMP)
            except NetlinkDumpInterrupted:
                continue
        raise OSError(errno.EAGAIN, "the links change faster than they can be listed")


def link_message(ifindex: int, attrs: Attrs | None = None, *, up: bool | None = None) -> Any:
    """Return a message about a link; ``up`` of None leaves it up or down."""
    message = ifinfmsg()
    message["index"] = ifindex
    if up is not None:
        message["flags"] = IFF_UP if up else 0
        message["change"] = IFF_UP
    if attrs is not None:
        message["attrs"] = attrs
    return message


@contextmanager
def refused_as(error_of: Callable[[int], GuestAgentError]) -> Iterator[None]:
    """Raise what ``error_of`` makes of the errno where the kernel refuses a request."""
    try:
        yield
    except NetlinkError as error:
        raise error_of(abs(error.code)) from error
    except OSError as error:
        raise error_of(error.errno or errno.EIO) from error
