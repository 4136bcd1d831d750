"""Strict reading of TOML: every key is taken once and typed, or is an error that names it.

Types and bounds come from the dataclass that a table fills, where keys and fields have one name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar, get_args

from guestagent.codec import hints, parts
from guestagent.errors import ConfigurationError, shown
from guestagent.files import read_file
from guestagent.json_fields import FINITE, LEAST_INTEGER, MOST_INTEGER, JsonError, Range

_T = TypeVar("_T")
_Choice = TypeVar("_Choice", bound=StrEnum)


def read(path: Path, *, hint: str) -> dict[str, Any]:
    """Return a TOML file as it is. Raises ConfigurationError, which names the file."""
    import tomllib  # not needed by a guest without a file

    try:
        return tomllib.loads(read_file(path).decode())
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}", hint=hint) from error
    # ValueError: no TOML, no UTF-8, or a number of thousands of digits.
    except (JsonError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}: not TOML: {error}", hint=hint) from error


class Table:
    """A table of a file, from which every key must be taken.

    ``hint`` says what to do about a wrong value; ``separator`` stands in keys for the
    underscore of a field's name.
    """

    def __init__(
        self, raw: object, path: Path, name: str = "", *, hint: str, separator: str = "_"
    ) -> None:
        self._path = path
        self._name = name
        self._hint = hint
        self._separator = separator
        self._known: dict[str, None] = {}
        if not isinstance(raw, dict):
            raise self.wrong("", "must be a table")
        self._left: dict[str, object] = dict(raw)

    def wrong(self, key: str, problem: str, *, hint: str | None = None) -> ConfigurationError:
        """Return the error that names the file and the key."""
        return ConfigurationError(
            f"{self._path}: {self._at(key)} {problem}", hint=hint or self._hint
        )

    def has(self, key: str) -> bool:
        """Whether a key is there."""
        self._known[key] = None
        return key in self._left

    def take(self, key: str, default: object = MISSING) -> object:
        """Take a value of any type, or the default; without one it must be there."""
        if not self.has(key) and default is MISSING:
            raise self.wrong(key, "is missing")
        return self._left.pop(key, default)

    def taken(
        self, key: str, expected: str, fits: Callable[[Any], bool], default: object = MISSING
    ) -> Any:
        """Take a value that ``fits``, or the default; ``expected`` describes it in an error."""
        value = self.take(key, default)
        if not fits(value):
            raise self.wrong(key, f"is {shown(value)}, must be {expected}")
        return value

    def fill(self, kind: type[_T], *, default: _T | None = None, **given: object) -> _T:
        """Take a value for each field of a dataclass that is not given, by its type and bounds.

        A key that is missing leaves the field as ``default`` has it, else as the class does.
        """
        for each in fields(kind):  # type: ignore[arg-type]  # any dataclass
            key = each.name.replace("_", self._separator)
            if each.name in given:
                continue
            if self.has(key) or (default is None and each.default is MISSING):
                given[each.name] = self._value(key, hints(kind)[each.name])
            elif default is not None:
                given[each.name] = getattr(default, each.name)
        return kind(**given)

    def filled(self, kind: type[_T]) -> _T:
        """Take all keys as the fields of a dataclass, and finish."""
        values = self.fill(kind)
        self.finish()
        return values

    def _value(self, key: str, declared: Any) -> object:
        optional = get_args(declared) if type(None) in get_args(declared) else (declared,)
        kind, bounds = parts(optional[0])
        if kind is int:
            return self.integer(key, bounds)
        if kind is float:
            return self.number(key, bounds)
        if kind is bool:
            return self.boolean(key)
        if kind is Path:
            return self.socket(key)
        return self.choice(key, kind) if issubclass(kind, StrEnum) else self.text(key)

    def text(self, key: str) -> str:
        """Take a text that is not empty."""
        return str(self.taken(key, "a text that is not empty", _is_text))

    def optional_text(self, key: str) -> str | None:
        """Take a text, if there is one."""
        return self.text(key) if self.has(key) else None

    def texts(self, key: str) -> tuple[str, ...]:
        """Take a text or an array of them; none of them is empty."""
        value = self.take(key)
        items = value if isinstance(value, list) else [value]
        if not items or not all(map(_is_text, items)):
            raise self.wrong(key, f"is {shown(value)}, must be a text or an array of texts")
        return tuple(items)

    def choice(self, key: str, kind: type[_Choice]) -> _Choice:
        """Take one of the words of ``kind``."""
        text = self.text(key)
        try:
            return kind(text)
        except ValueError as error:
            words = ", ".join(kind)
            raise self.wrong(key, f"is {text!r}, must be one of: {words}") from error

    def socket(self, key: str) -> Path:
        """Take an absolute path."""
        path = Path(self.text(key))
        if not path.is_absolute():
            raise self.wrong(key, f"is {str(path)!r}, must be an absolute path")
        return path

    def number(self, key: str, bounds: Range) -> float:
        """Take a finite number within its bounds."""
        value = self.taken(
            key,
            f"a number of {bounds}",
            lambda v: (_is_whole(v) or isinstance(v, float)) and v in bounds and v in FINITE,
        )
        return float(value)

    def integer(self, key: str, bounds: Range) -> int:
        """Take a whole number of 64 bits within its bounds."""
        value: int = self.taken(
            key, f"a whole number of {bounds}", lambda v: _is_whole(v) and v in bounds
        )
        if not LEAST_INTEGER <= value <= MOST_INTEGER:
            raise self.wrong(key, f"is {shown(value)}, a number of more than 64 bits")
        return value

    def boolean(self, key: str, *, default: object = MISSING) -> bool:
        """Take true or false, or the default."""
        return bool(self.taken(key, "true or false", lambda v: isinstance(v, bool), default))

    def table(self, key: str) -> Table:
        """Take a table, which must be there."""
        return self.nested(key, self.take(key))

    def optional_table(self, key: str) -> Table:
        """Take a table; an empty one where there is none."""
        return self.nested(key, self.take(key, {}))

    def tables(self, key: str) -> list[Table]:
        """Take an array of tables, at least one."""
        listed = self.take(key)
        if not isinstance(listed, list) or not listed:
            raise self.wrong(key, f"must be written as [[{key}]], at least once")
        return [self.nested(f"{key}[{i}]", raw) for i, raw in enumerate(listed)]

    def nested(self, key: str, raw: object) -> Table:
        """Return a table below this one from a value that was taken already."""
        return Table(raw, self._path, self._at(key), hint=self._hint, separator=self._separator)

    def names(self) -> tuple[str, ...]:
        """Return the keys that are left."""
        return tuple(self._left)

    def rest(self) -> tuple[tuple[str, str | int | bool], ...]:
        """Take all keys that are left, as properties of a device."""
        properties = []
        for key, value in self._left.items():
            if not isinstance(value, str | int | bool):
                raise self.wrong(
                    key, f"is {shown(value)}, must be a text, a whole number, true or false"
                )
            if isinstance(value, int) and not LEAST_INTEGER <= value <= MOST_INTEGER:
                raise self.wrong(key, "is a number of more than 64 bits")
            properties.append((key, value))
        self._left.clear()
        return tuple(properties)

    def finish(self) -> None:
        """Refuse the first key that nobody took. Raises ConfigurationError."""
        if self._left:
            raise ConfigurationError(
                f"{self._path}: unknown key {self._at(next(iter(self._left)))}",
                hint=f"known keys of {self._name or 'the file'}: {', '.join(self._known)};"
                f" {self._hint}",
            )

    def _at(self, key: str) -> str:
        return f"{self._name}.{key}".strip(".")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
