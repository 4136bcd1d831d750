"""Data from outside: within its bounds it is read as it is, beyond them it is one error."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestagent.codec import members, plain, typed
from guestagent.errors import PeerError
from guestagent.files import read_file
from guestagent.host.hypervisor.reply import Reply
from guestagent.json_fields import Bounds, JsonError, Obj, Range, check

SMALL = Bounds(depth=4, values=40, text=60)


@pytest.mark.parametrize(
    ("number", "problem"),
    [
        ("1" + "0" * 400, r"pair\.held_s must be a number of at most 64 bits"),
        ("-1" + "0" * 400, r"pair\.held_s must be a number of at most 64 bits"),
        (str(2**64), r"pair\.held_s must be a number of at most 64 bits"),
        ("-1e999", r"pair\.held_s must be a finite number"),
        ("NaN", "not JSON: NaN is no number"),
        ("Infinity", "not JSON: Infinity is no number"),
        ("9" * 100_000, "not JSON"),
    ],
)
def test_a_number_that_cannot_be_held_is_refused(number: str, problem: str) -> None:
    with pytest.raises(JsonError, match=problem):
        Obj.parse(f'{{"pair": {{"held_s": {number}}}}}')


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 10**400])
def test_a_number_of_a_document_that_was_not_parsed_here_is_held_to_the_same(
    number: float,
) -> None:
    with pytest.raises(JsonError, match="held_s must be a finite number"):
        Obj({"held_s": number}).number("held_s")
    with pytest.raises(PeerError, match=r"query of /q: held_s must be a"):
        Reply.received({"held_s": number}, "query of /q")


@pytest.mark.parametrize(("number", "value"), [("3", 3.0), ("1e308", 1e308), ("-0.5", -0.5)])
def test_every_other_number_is_returned(number: str, value: float) -> None:
    assert Obj.parse(f'{{"held_s": {number}}}').number("held_s") == value


@pytest.mark.parametrize("number", [2**64 - 1, -(2**63), 0])
def test_an_integer_of_64_bits_is_returned(number: int) -> None:
    assert Obj.parse(f'{{"size": {number}}}').integer("size") == number


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ('{"a": 1, "a": 2}', "a member twice"),
        ('{"a": [[[[]]]]}', "4 levels deep"),
        ('{"a": ' + "[" * 100_000, "not JSON"),
        ('{"a": [' + "1," * 40 + "1]}", "40 values"),
        ('{"a": ["' + "x" * 30 + '", "' + "y" * 30 + '"]}', "60 characters"),
        ('{"' + "k" * 61 + '": 1}', "60 characters"),
        ("[1]", "must be an object, not an array"),
    ],
)
def test_a_document_beyond_its_bounds_is_one_error(document: str, problem: str) -> None:
    with pytest.raises(JsonError, match=problem):
        Obj.parse(document, SMALL)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=60,
)


@given(st.dictionaries(st.text(max_size=5), JSON))
def test_any_document_is_read_to_the_same_meaning_or_is_one_error(document: Any) -> None:
    try:
        read = Obj.parse(json.dumps(document), SMALL)
    except JsonError:
        with pytest.raises(JsonError):
            check(document, SMALL)
    else:
        assert read.value == document


class Word(StrEnum):
    ONE = "one"
    TWO = "two"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    path: Path
    word: Word | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    vlan: Annotated[int, Range(0, 4094)]
    share: Annotated[float, Range(0, 1)] | None = None
    names: tuple[str, ...] = ()
    inner: Inner | None = None
    flag: bool = False
    either: str | int | bool = ""


OUTERS = st.builds(
    Outer,
    vlan=st.integers(0, 4094),
    share=st.none() | st.floats(0, 1),
    names=st.lists(st.text()).map(tuple),
    inner=st.none()
    | st.builds(
        Inner,
        path=st.sampled_from([Path("/run/a"), Path("b")]),
        word=st.none() | st.sampled_from(Word),
    ),
    flag=st.booleans(),
    either=st.text() | st.integers(0, 9) | st.booleans(),
)


@given(OUTERS)
def test_a_dataclass_is_read_as_it_was_written(value: Outer) -> None:
    document = json.loads(json.dumps(plain(value)))
    assert typed(Outer, document) == value


@given(OUTERS, st.sampled_from(["vlan", "share", "names", "inner", "flag", "either", "is"]), JSON)
def test_a_dataclass_with_any_value_in_a_member_is_read_or_is_one_error(
    value: Outer, member: str, other: Any
) -> None:
    document = {**plain(value), member: other}
    with contextlib.suppress(JsonError):
        read = typed(Outer, document)
        assert read.vlan in range(4095)
        assert typed(Outer, json.loads(json.dumps(plain(read)))) == read
    with contextlib.suppress(JsonError):
        members(Outer, Obj(document))


@pytest.mark.parametrize("vlan", [-1, 4095, True, "1", 1.0, None])
def test_a_number_out_of_its_range_names_the_member(vlan: object) -> None:
    with pytest.raises(JsonError, match="vlan must be an integer"):
        typed(Outer, {"is": "Outer", "vlan": vlan})


def test_an_object_without_a_class_may_lack_what_may_be_null_and_nothing_else() -> None:
    whole = {"vlan": 1, "names": [], "flag": True, "either": 3, "later": "unknown here"}
    read = members(Outer, Obj(whole))
    assert read == Outer(vlan=1, flag=True, either=3)
    for key in ("vlan", "names", "flag"):
        short = {name: value for name, value in whole.items() if name != key}
        with pytest.raises(JsonError, match=f"lacks {key}"):
            members(Outer, Obj(short, "lease"))


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 11)
    assert read_file(tmp_path / "f", 11) == b"x" * 11
    with pytest.raises(JsonError, match="longer than 10 bytes"):
        read_file(tmp_path / "f", 10)
