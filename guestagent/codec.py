"""Dataclasses as JSON and back: journal, leases, status, and the protocol to another host.

``plain`` writes the class in ``is`` and only what differs from the defaults, so that a line
stays short and can be read by people; ``typed`` and its siblings read that strictly: nothing
unknown, nothing of another type. ``members`` reads an object that names no class, as
``asdict`` writes it: members that are unknown are ignored, for a later version may add some.

Files outlive names: a class that was renamed keeps its name in files with
``WIRE_NAME: ClassVar[str] = "Former"``, a member with ``field(metadata=wire("former"))``.
Bounds are declared with the type: ``vlan: Annotated[int, Range(0, 4094)]``.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from guestagent.json_fields import JsonError, Obj, Range

_T = TypeVar("_T")
_SCALARS: Mapping[type, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
}


def plain(value: object) -> Any:
    """Return a dataclass, or a value that one may hold, as values that ``json`` knows."""
    if is_dataclass(value):
        document: dict[str, object] = {"is": _name(type(value))}
        for each in fields(value):
            held = getattr(value, each.name)
            if held != each.default or each.default is MISSING:
                document[_key(each)] = plain(held)
        return document
    if isinstance(value, frozenset):
        return sorted(plain(item) for item in value)
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, StrEnum | Path) else value


def typed(kind: type[_T], value: object) -> _T:
    """Return the dataclass of class ``kind`` that was made ``plain``. Raises JsonError."""
    read: _T = _Reader(named=True).read(kind, value, "")
    return read


def value_of(kind: object, value: object) -> Any:
    """Return a value that was made ``plain``, of any type that a dataclass may hold.

    ``kind`` may be a union, and None. Raises JsonError.
    """
    if kind is None:
        if value is not None:
            raise JsonError("the value must be null")
        return None
    return _Reader(named=True).read(kind, value, "")


def members(kind: type[_T], obj: Obj) -> _T:
    """Return the dataclass of an object that names no class. Raises JsonError.

    Only a member that may be null may be missing.
    """
    read: _T = _Reader(named=False).read(kind, obj.value, obj.path)
    return read


def wire(name: str) -> Mapping[str, str]:
    """Return the metadata of a field that has another name in files."""
    return {"wire": name}


def hints(kind: type) -> Mapping[str, Any]:
    """Return the types of a dataclass's fields, with their bounds."""
    return _hints(kind)


def parts(kind: Any) -> tuple[Any, Range]:
    """Return a declared type without its bounds, and the bounds."""
    if typing.get_origin(kind) is typing.Annotated:
        bare, *extras = typing.get_args(kind)
        return bare, next((each for each in extras if isinstance(each, Range)), Range())
    return kind, Range()


def _name(kind: Any) -> str:
    """Return the name of a class in files."""
    return str(getattr(kind, "WIRE_NAME", getattr(kind, "__name__", "")))


def _key(each: Field[Any]) -> str:
    return str(each.metadata.get("wire", each.name))


@functools.cache
def _hints(kind: type) -> Mapping[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """Reads values by declared types; ``named`` is whether objects carry their class in ``is``."""

    named: bool

    def read(self, kind: Any, value: object, path: str) -> Any:
        kind, bounds = parts(kind)
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin in {types.UnionType, typing.Union}:
            return self._union(arguments, value, path)
        if origin in {tuple, frozenset}:
            return origin(self._items(arguments, value, path))
        if is_dataclass(kind):
            return self._object(kind, value, path)
        obj = Obj(value, path)
        if kind in {int, float}:
            number = obj.integer() if kind is int else obj.number()
            if number not in bounds:
                raise JsonError(f"{path or 'the value'} must be {_SCALARS[kind]} of {bounds}")
            return number
        if kind is bool:
            return obj.boolean()
        try:
            return kind(obj.string())
        except JsonError:
            raise
        except ValueError as error:
            raise JsonError(f"{path}: {error}") from error

    def _object(self, kind: Any, value: object, path: str) -> Any:
        if not isinstance(value, dict) or (self.named and value.get("is") != _name(kind)):
            raise JsonError(f"{path or 'the value'} must be a {_name(kind)}")
        known = {_key(each): each for each in fields(kind)}
        unknown = sorted(value.keys() - known.keys() - {"is"})
        if unknown and self.named:
            raise JsonError(f"{path or _name(kind)} has an unknown member {unknown[0]!r}")
        given = {}
        for key, each in known.items():
            declared = _hints(kind)[each.name]
            if key in value:
                at = f"{path}.{key}" if path else key
                given[each.name] = self.read(declared, value[key], at)
            elif not self.named and _may_be_null(declared):
                given[each.name] = None
            elif not self.named or (each.default is each.default_factory is MISSING):
                raise JsonError(f"{path or _name(kind)} lacks {key}")
        return kind(**given)

    def _union(self, kinds: tuple[Any, ...], value: object, path: str) -> Any:
        if value is None and type(None) in kinds:
            return None
        others = [kind for kind in kinds if kind is not type(None)]
        if len(others) == 1:
            return self.read(others[0], value, path)
        named = value.get("is") if isinstance(value, dict) else None
        for kind in others:
            is_named = is_dataclass(kind) and _name(kind) == named
            if is_named or (named is None and not is_dataclass(kind) and _fits(kind, value)):
                return self.read(kind, value, path)
        raise JsonError(f"{path or 'the value'} is none of the kinds that it may be")

    def _items(self, kinds: tuple[Any, ...], value: object, path: str) -> list[Any]:
        items = Obj(value, path).items()
        if len(kinds) == 1 or kinds[1:] == (Ellipsis,):
            kinds = kinds[:1] * len(items)
        if len(kinds) != len(items):
            raise JsonError(f"{path} must have {len(kinds)} items, not {len(items)}")
        return [
            self.read(kind, item.value, item.path) for kind, item in zip(kinds, items, strict=True)
        ]


def _may_be_null(kind: Any) -> bool:
    return type(None) in typing.get_args(kind)


def _fits(kind: Any, value: object) -> bool:
    kind, _ = parts(kind)
    if kind in _SCALARS:
        return type(value) is kind or (kind is float and type(value) is int)
    return isinstance(value, list if typing.get_origin(kind) else str)
