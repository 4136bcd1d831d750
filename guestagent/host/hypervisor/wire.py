"""Typed getters on JSON that came from outside.

A ``Reply`` knows where it came from and which member it is, so an error names
both: ``query-migrate of …/qmp.sock: ram.total is 'x', not an integer``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from guestagent.errors import PeerError

_MAX_SHOWN = 200


def shown(text: str) -> str:
    """Return foreign text fit for a terminal and a log: short, and without control characters."""
    clean = "".join(letter if letter.isprintable() else "?" for letter in text[: _MAX_SHOWN + 1])
    return clean if len(clean) <= _MAX_SHOWN else f"{clean[: _MAX_SHOWN - 3]}..."


@dataclass(frozen=True, slots=True)
class Reply:
    """One JSON value with its origin; every getter raises PeerError on another type."""

    value: object
    origin: str
    path: str = ""

    def _member(self, key: str) -> Reply:
        path = f"{self.path}.{key}" if self.path else key
        return Reply(self._mapping().get(key), self.origin, path)

    def _mapping(self) -> Mapping[str, object]:
        if not isinstance(self.value, dict):
            raise self._wrong("an object")
        return self.value

    def _wrong(self, expected: str) -> PeerError:
        found = shown(repr(self.value))
        where = f"{self.path} is" if self.path else "the answer is"
        return PeerError(
            f"{self.origin}: {where} {found}, not {expected}",
            hint="this is not the protocol that was expected: check what serves the socket",
        )

    def has(self, key: str) -> bool:
        """Whether the object has a member ``key`` that is not null."""
        return self._mapping().get(key) is not None

    def member(self, key: str) -> Reply:
        """Return the object member ``key``."""
        member = self._member(key)
        member._mapping()
        return member

    def text(self, key: str) -> str:
        """Return the string member ``key``."""
        member = self._member(key)
        if not isinstance(member.value, str):
            raise member._wrong("a string")
        return member.value

    def optional_text(self, key: str) -> str | None:
        """Return the string member ``key``, or None where it is missing."""
        return self.text(key) if self.has(key) else None

    def integer(self, key: str) -> int:
        """Return the integer member ``key``."""
        member = self._member(key)
        if not isinstance(member.value, int) or isinstance(member.value, bool):
            raise member._wrong("an integer")
        return member.value

    def optional_integer(self, key: str) -> int | None:
        """Return the integer member ``key``, or None where it is missing."""
        return self.integer(key) if self.has(key) else None

    def number(self, key: str) -> float:
        """Return the numeric member ``key``."""
        member = self._member(key)
        if not isinstance(member.value, int | float) or isinstance(member.value, bool):
            raise member._wrong("a number")
        return float(member.value)

    def items(self, key: str | None = None) -> Iterator[Reply]:
        """Yield the elements of this list, or of the list member ``key``."""
        listed = self if key is None else self._member(key)
        if not isinstance(listed.value, list):
            raise listed._wrong("a list")
        for index, value in enumerate(listed.value):
            yield Reply(value, listed.origin, f"{listed.path}[{index}]")

    def as_text(self) -> str:
        """Return the value itself, a string."""
        if not isinstance(self.value, str):
            raise self._wrong("a string")
        return self.value

    def as_integer(self) -> int:
        """Return the value itself, an integer."""
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            raise self._wrong("an integer")
        return self.value

    def as_boolean(self) -> bool:
        """Return the value itself, a boolean."""
        if not isinstance(self.value, bool):
            raise self._wrong("true or false")
        return self.value
