"""Neighbours that are to prove that they can be reached, through pyroute2.

Loaded when the path health asks for the first time: pyroute2 takes its time and memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from guestagent.guest.kernel.protocol import KernelError
from guestagent.pyroute import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    RTM_GETNEIGH,
    RTM_NEWNEIGH,
    RtSocket,
    ndmsg,
    refused_as,
)

NUD_REACHABLE, NUD_PROBE, NUD_PERMANENT = 0x02, 0x10, 0x80
NTF_USE = 0x01


class Prover:
    """Asks the kernel's neighbour discovery; belongs to one plain thread (see ``RtSocket``)."""

    def __init__(self) -> None:
        self._socket = RtSocket()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def solicit(self, ifindex: int, family: int, neighbour: str) -> None:
        """Make a neighbour on a link prove that it can be reached.

        A known one is put into the state PROBE, an unknown one is used, which
        makes the kernel look for it (K: net/core/neighbour.c, neigh_add (6.12)).
        """
        known = any(
            message.get_attr("NDA_DST") == neighbour and message.get_attr("NDA_LLADDR")
            for message in self._neighbours(ifindex)
        )
        message = ndmsg()
        message["family"] = family
        message["ifindex"] = ifindex
        message["state"] = NUD_PROBE if known else 0
        message["flags"] = 0 if known else NTF_USE
        message["attrs"] = [("NDA_DST", neighbour)]
        flags = NLM_F_REQUEST | NLM_F_ACK | (NLM_F_REPLACE if known else NLM_F_CREATE)
        with _refused(f"solicit {neighbour} on link {ifindex}"):
            self._socket.request(message, RTM_NEWNEIGH, flags)

    def reachable(self, ifindex: int) -> frozenset[str]:
        """Return the addresses of the neighbours that have proven it lately."""
        return frozenset(
            message.get_attr("NDA_DST")
            for message in self._neighbours(ifindex)
            if message["state"] & (NUD_REACHABLE | NUD_PERMANENT)
        )

    def _neighbours(self, ifindex: int) -> Iterator[Any]:
        with _refused("list neighbours"):
            for message in self._socket.dump(ndmsg(), RTM_GETNEIGH):
                if message["ifindex"] == ifindex:
                    yield message


def _refused(what: str) -> AbstractContextManager[None]:
    return refused_as(lambda code: KernelError(f"could not {what}", code))
