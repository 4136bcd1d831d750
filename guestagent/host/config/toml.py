"""Strict reading of a TOML table: every key is taken once, typed, or is an error."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from guestagent.errors import ConfigurationError, shown
from guestagent.host.model import PropertyValue

LONGEST_NUMBER = 64
"""Bits of a device's property; QEMU takes no longer one."""

_Choice = TypeVar("_Choice", bound=StrEnum)


class Table:
    """One table of the file, from which every key must be taken."""

    def __init__(self, raw: object, path: Path, name: str = "") -> None:
        self._path = path
        self._name = name
        if not isinstance(raw, dict):
            raise self.wrong("", "must be a table")
        self._left: dict[str, object] = dict(raw)

    def wrong(self, key: str, problem: str, *, hint: str | None = None) -> ConfigurationError:
        """Return the error that names the file and the key."""
        where = f"{self._name}.{key}".strip(".")
        return ConfigurationError(f"{self._path}: {where} {problem}", hint=hint)

    def has(self, key: str) -> bool:
        """Whether a key is there."""
        return key in self._left

    def take(self, key: str) -> object:
        """Take a value of any type; it must be there."""
        if key not in self._left:
            raise self.wrong(key, "is missing", hint="see the example in --help")
        return self._left.pop(key)

    def text(self, key: str) -> str:
        """Take a text that is not empty."""
        value = self.take(key)
        if not isinstance(value, str) or not value:
            raise self.wrong(key, f"is {shown(value)}, must be a text that is not empty")
        return value

    def optional_text(self, key: str) -> str | None:
        """Take a text, if there is one."""
        return self.text(key) if self.has(key) else None

    def texts(self, key: str) -> tuple[str, ...]:
        """Take a text or an array of them; none of them is empty."""
        value = self.take(key)
        items = value if isinstance(value, list) else [value]
        if not items or not all(isinstance(item, str) and item for item in items):
            raise self.wrong(key, f"is {shown(value)}, must be a text or an array of texts")
        return tuple(items)

    def choice(self, key: str, kind: type[_Choice]) -> _Choice | None:
        """Take one of the words of ``kind``, if there is one."""
        text = self.optional_text(key)
        try:
            return None if text is None else kind(text)
        except ValueError as error:
            words = ", ".join(kind)
            raise self.wrong(key, f"is {text!r}, must be one of: {words}") from error

    def socket(self, key: str) -> Path:
        """Take an absolute path."""
        path = Path(self.text(key))
        if not path.is_absolute():
            raise self.wrong(key, f"is {str(path)!r}, must be an absolute path")
        return path

    def optional_socket(self, key: str) -> Path | None:
        """Take an absolute path, if there is one."""
        return self.socket(key) if self.has(key) else None

    def number(self, key: str, default: float, *, least: float = 0.001) -> float:
        """Take a number of at least ``least``, and one that a float holds."""
        if not self.has(key):
            return default
        value = self.take(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, f"is {shown(value)}, must be a number")
        if not least <= value <= sys.float_info.max:
            raise self.wrong(key, f"is {shown(value)}, must be a number of at least {least:g}")
        return float(value)

    def optional_integer(self, key: str, *, least: int = 1, most: int | None = None) -> int | None:
        """Take a whole number from ``least`` to ``most``, if there is one."""
        return self.integer(key, least, least=least, most=most) if self.has(key) else None

    def integer(self, key: str, default: int, *, least: int = 1, most: int | None = None) -> int:
        """Take a whole number from ``least`` to ``most``."""
        if not self.has(key):
            return default
        value = self.take(key)
        fits = isinstance(value, int) and not isinstance(value, bool)
        if not isinstance(value, int) or not fits or value < least:
            raise self.wrong(key, f"is {shown(value)}, must be a whole number of at least {least}")
        if most is not None and value > most:
            raise self.wrong(key, f"is {shown(value)}, must be a whole number of at most {most}")
        return value

    def table(self, key: str) -> Table:
        """Take a table, which must be there."""
        return self.nested(key, self.take(key))

    def nested(self, key: str, raw: object) -> Table:
        """Return a table below this one from what was taken already."""
        return Table(raw, self._path, f"{self._name}.{key}".strip("."))

    def optional_table(self, key: str) -> Table:
        """Take a table; an empty one where there is none."""
        return self.table(key) if self.has(key) else self.nested(key, {})

    def tables(self, key: str) -> list[Table]:
        """Take an array of tables, at least one."""
        listed = self.take(key)
        if not isinstance(listed, list) or not listed:
            raise self.wrong(key, f"must be written as [[{key}]], at least once")
        return [Table(raw, self._path, f"{key}[{i}]") for i, raw in enumerate(listed)]

    def rest(self) -> tuple[tuple[str, PropertyValue], ...]:
        """Take all keys that are left, as properties of a device."""
        properties = []
        for key, value in self._left.items():
            if not isinstance(value, str | int | bool):
                raise self.wrong(
                    key, f"is {shown(value)}, must be a text, a whole number or a truth"
                )
            if isinstance(value, int) and value.bit_length() > LONGEST_NUMBER:
                raise self.wrong(key, f"is a number of more than {LONGEST_NUMBER} bits")
            properties.append((key, value))
        self._left.clear()
        return tuple(properties)

    def boolean(self, key: str, *, default: bool) -> bool:
        """Take a truth."""
        value = self.take(key) if self.has(key) else default
        if not isinstance(value, bool):
            raise self.wrong(key, f"is {shown(value)}, must be true or false")
        return value

    def optional_boolean(self, key: str) -> bool | None:
        """Take a truth, if there is one."""
        return self.boolean(key, default=False) if self.has(key) else None

    def finish(self) -> None:
        """Refuse the first key that nobody took."""
        if self._left:
            raise self.wrong(
                next(iter(self._left)),
                "is not a known key",
                hint="keys are those of the example in --help; check the spelling and the table",
            )
