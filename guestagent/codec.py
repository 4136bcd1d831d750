"""Our own dataclasses as JSON and back, for the journal and for the helper on another host.

An object carries its class in ``is`` and only what differs from the defaults,
so that a line stays short and can be read by people. What is read is held
against the types of the class: nothing unknown, nothing of another type.

Files outlive names: a class that was renamed keeps its name in files with
``WIRE_NAME: ClassVar[str] = "Former"``, a member with ``field(metadata=wire("former"))``.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from guestagent.json_fields import JsonError

_T = TypeVar("_T")
_SCALARS = (bool, int, float, str)


def plain(value: object) -> Any:
    """Return a dataclass, or what one may hold, as values that ``json`` knows."""
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
    read: _T = _read(kind, value, "")
    return read


def value_of(kind: object, value: object) -> Any:
    """Return a value of any type that a dataclass may hold, None included. Raises JsonError."""
    if kind is None:
        if value is not None:
            raise JsonError("the value must be null")
        return None
    return _read(kind, value, "")


def one_of(kinds: object, value: object) -> Any:
    """Return the dataclass of a union of classes that was made ``plain``. Raises JsonError."""
    return _read(kinds, value, "")


def wire(name: str) -> Mapping[str, str]:
    """Return the metadata of a field that has another name in files."""
    return {"wire": name}


def _name(kind: Any) -> str:
    """Return the name of a class in files."""
    return str(getattr(kind, "WIRE_NAME", getattr(kind, "__name__", "")))


def _key(each: Field[Any]) -> str:
    return str(each.metadata.get("wire", each.name))


@functools.cache
def _hints(kind: type) -> Mapping[str, Any]:
    return typing.get_type_hints(kind)


def _read(kind: Any, value: object, path: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in {types.UnionType, typing.Union}:
        return _read_union(arguments, value, path)
    if origin in {tuple, frozenset}:
        return origin(_read_items(arguments, value, path))
    if is_dataclass(kind):
        return _read_object(kind, value, path)
    if isinstance(kind, type) and issubclass(kind, StrEnum | Path):
        try:
            return kind(_scalar(str, value, path))
        except ValueError as error:
            raise JsonError(f"{path}: {error}") from error
    return _scalar(kind, value, path)


def _read_object(kind: Any, value: object, path: str) -> Any:
    if not isinstance(value, dict) or value.get("is") != _name(kind):
        raise JsonError(f"{path or 'the value'} must be a {_name(kind)}")
    known = {_key(each): each for each in fields(kind)}
    unknown = sorted(value.keys() - known.keys() - {"is"})
    if unknown:
        raise JsonError(f"{path or _name(kind)} has an unknown member {unknown[0]!r}")
    missing = [
        name
        for name, each in known.items()
        if name not in value and each.default is MISSING and each.default_factory is MISSING
    ]
    if missing:
        raise JsonError(f"{path or _name(kind)} lacks {missing[0]}")
    return kind(
        **{
            each.name: _read(_hints(kind)[each.name], value[key], f"{path}.{key}".lstrip("."))
            for key, each in known.items()
            if key in value
        }
    )


def _read_union(kinds: tuple[Any, ...], value: object, path: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    named = value.get("is") if isinstance(value, dict) else None
    for kind in kinds:
        is_named = is_dataclass(kind) and _name(kind) == named
        if is_named or (named is None and not is_dataclass(kind) and _fits(kind, value)):
            return _read(kind, value, path)
    raise JsonError(f"{path or 'the value'} is none of the kinds that it may be")


def _fits(kind: Any, value: object) -> bool:
    if kind in _SCALARS:
        return type(value) is kind or (kind is float and type(value) is int)
    return isinstance(value, list if typing.get_origin(kind) else str)


def _read_items(kinds: tuple[Any, ...], value: object, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise JsonError(f"{path} must be an array")
    if len(kinds) == 1 or kinds[1:] == (Ellipsis,):
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        raise JsonError(f"{path} must have {len(kinds)} items, not {len(value)}")
    return [
        _read(kind, item, f"{path}[{number}]")
        for number, (kind, item) in enumerate(zip(kinds, value, strict=True))
    ]


def _scalar(kind: Any, value: object, path: str) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise JsonError(f"{path} must be of type {kind.__name__}")
    return value
