"""Typed getters on JSON that came from elsewhere; errors name the path of the value."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, TypeVar

_T = TypeVar("_T")


class JsonError(ValueError):
    """A JSON text or value is not what was expected; the text names its path."""


@dataclass(frozen=True, slots=True)
class Obj:
    """A JSON object and where it was found."""

    value: dict[str, Any]
    path: str = ""

    @classmethod
    def parse(cls, text: str | bytes) -> Obj:
        """Parse a text that must be one JSON object. Raises JsonError."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise JsonError(f"not JSON: {error}") from error
        return cls.of(value)

    @classmethod
    def of(cls, value: object, path: str = "") -> Obj:
        """Wrap a parsed value that must be an object. Raises JsonError."""
        if not isinstance(value, dict):
            raise JsonError(f"{path or 'the text'} must be an object, not {_kind(value)}")
        return cls(value, path)

    def string(self, key: str) -> str:
        """Return a text. Raises JsonError."""
        return self._get(key, str, "a string")

    def optional_string(self, key: str) -> str | None:
        """Return a text, or None when it is null or missing. Raises JsonError."""
        return self.string(key) if self.has(key) else None

    def strings(self, key: str) -> tuple[str, ...]:
        """Return an array of texts. Raises JsonError."""
        items = self._get(key, list, "an array")
        if not all(isinstance(item, str) for item in items):
            raise JsonError(f"{self._at(key)} must be an array of strings")
        return tuple(items)

    def boolean(self, key: str) -> bool:
        """Return a boolean. Raises JsonError."""
        return self._get(key, bool, "true or false")

    def integer(self, key: str) -> int:
        """Return an integer. Raises JsonError."""
        value = self._get(key, int, "an integer")
        if isinstance(value, bool):
            raise JsonError(f"{self._at(key)} must be an integer, not a boolean")
        return value

    def number(self, key: str) -> float:
        """Return a number that is finite. Raises JsonError."""
        value = self.value.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            said = "missing" if key not in self.value else _kind(value)
            raise JsonError(f"{self._at(key)} must be a number, is {said}")
        # Python reads more than JSON has, NaN and Infinity, and whole numbers of any length.
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise JsonError(f"{self._at(key)} must be a number, is none that can be held")
        return number

    def optional_integer(self, key: str) -> int | None:
        """Return an integer, or None when it is null or missing. Raises JsonError."""
        return self.integer(key) if self.has(key) else None

    def optional_number(self, key: str) -> float | None:
        """Return a number, or None when it is null or missing. Raises JsonError."""
        return self.number(key) if self.has(key) else None

    def object(self, key: str) -> Obj:
        """Return an object. Raises JsonError."""
        return Obj(self._get(key, dict, "an object"), self._at(key))

    def objects(self, key: str) -> tuple[Obj, ...]:
        """Return an array of objects. Raises JsonError."""
        items = self._get(key, list, "an array")
        return tuple(Obj.of(item, f"{self._at(key)}[{n}]") for n, item in enumerate(items))

    def has(self, key: str) -> bool:
        """Whether a key is there and not null."""
        return self.value.get(key) is not None

    def _get(self, key: str, kind: type[_T], expected: str) -> _T:
        value = self.value.get(key)
        if not isinstance(value, kind):
            said = "missing" if key not in self.value else _kind(value)
            raise JsonError(f"{self._at(key)} must be {expected}, is {said}")
        return value

    def _at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")
