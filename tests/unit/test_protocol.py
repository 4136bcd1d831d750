"""The protocol on the socket and the serial port: exact, bounded, never surprised."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestagent.errors import BusyError
from guestagent.protocol import (
    MAX_DEPTH,
    MAX_LINE_BYTES,
    WireError,
    encode_error,
    encode_request,
    encode_result,
    parse_object,
    parse_request,
)


def test_a_request_comes_back_as_it_was_sent() -> None:
    request = parse_request(encode_request("switch", ident=7, arguments={"to": "standby"}))
    assert (request.id, request.name) == (7, "switch")
    assert request.arguments.string("to") == "standby"


def test_answers_carry_the_id_of_the_request() -> None:
    assert json.loads(encode_result("a", {"x": 1}))["id"] == "a"
    refused = json.loads(encode_error(3, BusyError("busy", hint="wait")))
    assert refused == {
        "v": 1,
        "id": 3,
        "ok": False,
        "error": {"code": "try-again", "message": "busy", "hint": "wait"},
    }


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff\xfe",
        b"[1]",
        b"7",
        b"{}",
        b'{"v": 2, "request": "status"}',
        b'{"v": true, "request": "status"}',
        b'{"v": 1, "request": 5}',
        b'{"v": 1, "request": "status", "arguments": []}',
        b"[" * 100_000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b" " * (MAX_LINE_BYTES + 1),
        b'{"v": 1, "request": "x", "arguments": ' + b'{"a":' * MAX_DEPTH + b"1" + b"}" * 99,
        # As deep as the JSON reader goes, which is deeper than a function may call itself.
        b'{"v": 1, "request": "x", "a": ' + b"[" * 900 + b"]" * 900 + b"}",
    ],
)
def test_what_is_no_request_is_an_error_and_nothing_else(line: bytes) -> None:
    with pytest.raises(WireError):
        parse_request(line)


def test_the_id_of_a_bad_request_is_kept_where_it_is_readable() -> None:
    with pytest.raises(WireError) as caught:
        parse_request(b'{"v": 9, "id": 12, "request": "status"}')
    assert caught.value.ident == 12


@given(st.binary(max_size=300))
def test_no_bytes_break_the_parser(line: bytes) -> None:
    for parse in (parse_request, parse_object):
        with contextlib.suppress(WireError):
            parse(line)


def test_an_answer_that_no_reader_would_take_is_an_error_in_its_place() -> None:
    line = encode_result(7, {"pairs": ["x" * MAX_LINE_BYTES]})
    assert len(line) <= MAX_LINE_BYTES
    reply = parse_object(line)
    assert (reply.integer("id"), reply.boolean("ok")) == (7, False)
    assert "65536" in reply.object("error").string("message")
