"""The reader of data from outside: JSON and TOML, checked once, then read with types.

``check`` bounds a whole document, whoever sent it: its depth, the number of its values and the
length of its text as sums, integers of 64 bits, finite floats. ``Obj`` reads the members of what
passed; each error names the path of the value. Types that a dataclass declares, with ``Range``
where a type alone is too wide, are read by ``guestagent.codec``.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any, NoReturn, Self

LEAST_INTEGER, MOST_INTEGER = -(2**63), 2**64 - 1
"""Integers of 64 bits, with or without a sign: QEMU and the kernel have both."""


class JsonError(ValueError):
    """A text or value is not what was expected; the message names its path."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of one document: levels, values in all, and characters of all strings and keys."""

    depth: int = 64
    values: int = 1_000_000
    text: int = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of a number, as ``Annotated[int, Range(0, 4094)]``; None is unbounded."""

    least: float | None = None
    most: float | None = None

    def __contains__(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (
            self.most is None or value <= self.most
        )

    def __str__(self) -> str:
        least = "" if self.least is None else f"at least {self.least:.15g}"
        most = "" if self.most is None else f"at most {self.most:.15g}"
        return " and ".join(bound for bound in (least, most) if bound) or "any size"


FINITE = Range(-1.7976931348623157e308, 1.7976931348623157e308)


def check(value: object, limits: Bounds = Bounds()) -> None:
    """Hold a parsed document to its limits. Raises JsonError, in bounded time."""
    _Check(limits).value(value, "", 1)


class _Check:
    """The walk through one document, with what is left of its limits."""

    def __init__(self, limits: Bounds) -> None:
        self._limits = limits
        self._values = limits.values
        self._text = limits.text

    def value(self, value: object, path: str, level: int) -> None:
        self._values -= 1
        if self._values < 0:
            raise JsonError(f"a document may have {self._limits.values} values")
        if isinstance(value, dict | list):
            if level > self._limits.depth:
                raise JsonError(f"an object may be {self._limits.depth} levels deep")
            self._members(value, path, level)
        elif isinstance(value, str):
            self._spend(value)
        elif isinstance(value, int) and not LEAST_INTEGER <= value <= MOST_INTEGER:
            raise JsonError(f"{path or 'the value'} must be a number of at most 64 bits")
        elif isinstance(value, float) and not math.isfinite(value):
            raise JsonError(f"{path or 'the value'} must be a finite number")

    def _members(self, value: dict[str, Any] | list[Any], path: str, level: int) -> None:
        if isinstance(value, list):
            for index, item in enumerate(value):
                self.value(item, f"{path}[{index}]", level + 1)
            return
        for key, item in value.items():
            self._spend(key)
            self.value(item, f"{path}.{key}" if path else key, level + 1)

    def _spend(self, text: str) -> None:
        self._text -= len(text)
        if self._text < 0:
            raise JsonError(f"the text of a document may have {self._limits.text} characters")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("an object has a member twice")
    return members


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")  # Python reads more than JSON has


@dataclass(frozen=True, slots=True)
class Obj:
    """A value, mostly an object, and where it was found.

    A getter takes the key of a member, or none to read the value itself. All raise JsonError, or
    what a subclass makes of it, when the value is missing or of another type.
    """

    value: Any
    path: str = ""

    @classmethod
    def parse(cls, text: str | bytes, limits: Bounds = Bounds()) -> Self:
        """Parse a text that must be one JSON object within ``limits``. Raises JsonError."""
        try:
            value = json.loads(
                text, object_pairs_hook=_without_duplicates, parse_constant=_no_number
            )
        except (ValueError, RecursionError) as error:
            raise JsonError(f"not JSON: {error}") from error
        check(value, limits)
        return cls.of(value)

    @classmethod
    def of(cls, value: object, path: str = "") -> Self:
        """Wrap a parsed value that must be an object. Raises JsonError."""
        if not isinstance(value, dict):
            raise JsonError(f"{path or 'the text'} must be an object, not {kind_of(value)}")
        return cls(value, path)

    def wrong(self, problem: str) -> Exception:
        """Return the error for a problem, which names the path."""
        return JsonError(problem)

    def string(self, key: str | None = None) -> str:
        """Return a string."""
        value: str = self._get(key, str, "a string")
        return value

    def optional_string(self, key: str) -> str | None:
        """Return a string, or None when it is null or missing."""
        return self.string(key) if self.has(key) else None

    def strings(self, key: str) -> tuple[str, ...]:
        """Return an array of strings."""
        items = self._get(key, list, "an array")
        if not all(isinstance(item, str) for item in items):
            raise self.wrong(f"{self._at(key)} must be an array of strings")
        return tuple(items)

    def boolean(self, key: str | None = None) -> bool:
        """Return a boolean."""
        value: bool = self._get(key, bool, "true or false")
        return value

    def integer(self, key: str | None = None) -> int:
        """Return an integer."""
        value: int = self._get(key, int, "an integer")
        return value

    def optional_integer(self, key: str) -> int | None:
        """Return an integer, or None when it is null or missing."""
        return self.integer(key) if self.has(key) else None

    def number(self, key: str | None = None) -> float:
        """Return a finite number."""
        value: int | float = self._get(key, int | float, "a number")
        if value not in FINITE:
            raise self.wrong(f"{self._at(key)} must be a finite number")
        return float(value)

    def object(self, key: str) -> Self:
        """Return an object."""
        return replace(self, value=self._get(key, dict, "an object"), path=self._at(key))

    def objects(self, key: str) -> tuple[Self, ...]:
        """Return an array of objects."""
        items = self.items(key)
        for item in items:
            item._get(None, dict, "an object")
        return items

    def items(self, key: str | None = None) -> tuple[Self, ...]:
        """Return the elements of an array, of any type."""
        items, at = self._get(key, list, "an array"), "" if key is None else self._at(key)
        return tuple(
            replace(self, value=item, path=f"{at or self.path}[{n}]")
            for n, item in enumerate(items)
        )

    def has(self, key: str) -> bool:
        """Whether a member is there and not null."""
        return self._members().get(key) is not None

    def _members(self) -> dict[str, Any]:
        if not isinstance(self.value, dict):
            kind = kind_of(self.value)
            raise self.wrong(f"{self.path or 'the value'} must be an object, not {kind}")
        return self.value

    def _get(self, key: str | None, kind: Any, expected: str) -> Any:
        value = self.value if key is None else self._members().get(key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            is_missing = key is not None and key not in self.value
            found = "missing" if is_missing else kind_of(value)
            raise self.wrong(f"{self._at(key)} must be {expected}, is {found}")
        return value

    def _at(self, key: str | None) -> str:
        return ".".join(part for part in (self.path, key) if part) or "the value"


def kind_of(value: object) -> str:
    """Return the name of a value's type in JSON."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")
