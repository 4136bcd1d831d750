"""Answers that came from outside, read with types.

A ``Reply`` knows where it came from and which member it is, so an error names
both: ``query-migrate of …/qmp.sock: ram.total must be an integer, is a string``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from guestagent.errors import PeerError
from guestagent.json_fields import JsonError, Obj

_T = TypeVar("_T")
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

    def has(self, key: str) -> bool:
        """Whether the object has a member ``key`` that is not null."""
        return self._read(lambda obj: obj.has(key))

    def member(self, key: str) -> Reply:
        """Return the object member ``key``."""
        member = self._read(lambda obj: obj.object(key))
        return Reply(member.value, self.origin, member.path)

    def text(self, key: str) -> str:
        """Return the string member ``key``."""
        return self._read(lambda obj: obj.string(key))

    def optional_text(self, key: str) -> str | None:
        """Return the string member ``key``, or None where it is missing."""
        return self._read(lambda obj: obj.optional_string(key))

    def integer(self, key: str) -> int:
        """Return the integer member ``key``."""
        return self._read(lambda obj: obj.integer(key))

    def boolean(self, key: str) -> bool:
        """Return the boolean member ``key``."""
        return self._read(lambda obj: obj.boolean(key))

    def optional_integer(self, key: str) -> int | None:
        """Return the integer member ``key``, or None where it is missing."""
        return self.integer(key) if self.has(key) else None

    def number(self, key: str) -> float:
        """Return the numeric member ``key``."""
        return self._read(lambda obj: obj.number(key))

    def items(self, key: str | None = None) -> Iterator[Reply]:
        """Yield the elements of this list, or of the list member ``key``."""
        listed = self.value if key is None else self._read(lambda obj: obj.value.get(key))
        if not isinstance(listed, list):
            raise self._wrong(f"{key or 'the value'} must be a list")
        for index, value in enumerate(listed):
            yield Reply(value, self.origin, f"{self.path}{key or ''}[{index}]")

    def as_text(self) -> str:
        """Return the value itself, a string."""
        if not isinstance(self.value, str):
            raise self._wrong("the value must be a string")
        return self.value

    def as_integer(self) -> int:
        """Return the value itself, an integer."""
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            raise self._wrong("the value must be an integer")
        return self.value

    def as_boolean(self) -> bool:
        """Return the value itself, a boolean."""
        if not isinstance(self.value, bool):
            raise self._wrong("the value must be true or false")
        return self.value

    def _read(self, getter: Callable[[Obj], _T]) -> _T:
        try:
            return getter(Obj.of(self.value, self.path))
        except JsonError as error:
            raise self._wrong(str(error)) from error

    def _wrong(self, what: str) -> PeerError:
        return PeerError(
            f"{self.origin}: {shown(what)}",
            hint="this is not the protocol that was expected: check what serves the socket",
        )
