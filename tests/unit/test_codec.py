"""Dataclasses as JSON: what was renamed reads the files of before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from guestagent.codec import plain, typed, value_of, wire
from guestagent.json_fields import JsonError


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed:
    WIRE_NAME: ClassVar[str] = "Former"
    number: int = field(metadata=wire("count"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    number: int = 0


def test_a_renamed_class_and_member_keep_their_names_in_files() -> None:
    document = {"is": "Former", "count": 3}
    assert plain(Renamed(number=3)) == document
    assert typed(Renamed, document) == Renamed(number=3)
    assert value_of(Renamed | Plain, document) == Renamed(number=3)


def test_the_new_names_are_unknown_in_files() -> None:
    for document in ({"is": "Renamed", "count": 3}, {"is": "Former", "number": 3}):
        with pytest.raises(JsonError):
            typed(Renamed, document)
