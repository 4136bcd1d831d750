"""Answers of QEMU and of the programs in a guest, read with types.

A ``Reply`` knows where it came from and which member it is, so an error names
both: ``query-migrate of …/qmp.sock: ram.total must be an integer, is a string``.
"""

from __future__ import annotations

from dataclasses import dataclass

from guestagent.errors import PeerError
from guestagent.json_fields import JsonError, Obj, check

_MAX_SHOWN = 200


def shown(text: str) -> str:
    """Return foreign text fit for a terminal and a log: short, and without control characters."""
    clean = "".join(letter if letter.isprintable() else "?" for letter in text[: _MAX_SHOWN + 1])
    return clean if len(clean) <= _MAX_SHOWN else f"{clean[: _MAX_SHOWN - 3]}..."


@dataclass(frozen=True, slots=True)
class Reply(Obj):
    """A value and its origin; every getter raises PeerError on another type."""

    origin: str = ""

    @classmethod
    def received(cls, value: object, origin: str) -> Reply:
        """Wrap a value that a library has parsed. Raises PeerError when it exceeds the limits."""
        reply = cls(value, origin=origin)
        try:
            check(value)
        except JsonError as error:
            raise reply.wrong(str(error)) from error
        return reply

    def wrong(self, problem: str) -> PeerError:
        """Return the error for a problem: the origin, the path and what to do."""
        return PeerError(
            f"{self.origin}: {shown(problem)}",
            hint="this is not the protocol that was expected: check what serves the socket",
        )
