"""JSON from the other side: what no number holds is refused, and does not end who reads it."""

from __future__ import annotations

import pytest

from guestagent.json_fields import JsonError, Obj


@pytest.mark.parametrize(
    "number", ["1" + "0" * 400, "-1" + "0" * 400, "NaN", "Infinity", "-1e999"]
)
def test_a_number_that_cannot_be_held_is_refused(number: str) -> None:
    said = Obj.parse(f'{{"pair": {{"held_s": {number}}}}}')
    pair = Obj.of(said.value["pair"], "pair")
    with pytest.raises(
        JsonError, match=r"pair\.held_s must be a number, is none that can be held"
    ):
        pair.number("held_s")


@pytest.mark.parametrize(("number", "value"), [("3", 3.0), ("1e308", 1e308), ("-0.5", -0.5)])
def test_every_other_number_is_returned(number: str, value: float) -> None:
    assert Obj.parse(f'{{"held_s": {number}}}').number("held_s") == value
