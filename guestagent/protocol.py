"""The agent's protocol: one JSON object a line, the same on the socket and the serial port.

A request has the protocol version, its name and its arguments; the answer repeats ``id``::

    {"v": 1, "id": 7, "request": "status"}
    {"v": 1, "id": 7, "ok": true, "result": {…}}
    {"v": 1, "id": 7, "ok": false, "error": {"code": "failed", "message": …, "hint": …}}

Input is bounded: MAX_LINE_BYTES a line, MAX_DEPTH levels. The answer to an invalid request is an
error object, and the connection stays open. Answers obey the same limits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from guestagent.errors import EXIT_TRY_AGAIN, GuestAgentError
from guestagent.json_fields import Bounds, JsonError, Obj

SOCKET = Path("/run/guestagent/control.sock")
VERSION = 1
MAX_LINE_BYTES = 64 * 1024
MAX_DEPTH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request of a valid form; the receiver decides whether it knows the name."""

    id: int | str | None
    name: str
    arguments: Obj


class WireError(GuestAgentError):
    """A line is not a request or a reply; ``ident`` is the request's id if it was readable."""

    def __init__(self, message: str, *, ident: int | str | None = None) -> None:
        super().__init__(message, hint=f"send one JSON object a line, protocol version {VERSION}")
        self.ident = ident


def parse_request(line: bytes) -> Request:
    """Return the request of a line. Raises WireError."""
    value = parse_object(line)
    raw_id = value.value.get("id")
    ident = raw_id if isinstance(raw_id, (int, str)) and not isinstance(raw_id, bool) else None
    try:
        version = value.integer("v")
        name = value.string("request")
        arguments = value.object("arguments") if value.has("arguments") else Obj({}, "arguments")
    except JsonError as error:
        raise WireError(str(error), ident=ident) from error
    if version != VERSION:
        raise WireError(f"version {version} was requested, this is version {VERSION}", ident=ident)
    return Request(id=ident, name=name, arguments=arguments)


def encode_request(
    name: str,
    *,
    ident: int | str | None = None,
    arguments: Mapping[str, object] | None = None,
) -> bytes:
    """Return the line of a request."""
    return _line({"v": VERSION, "id": ident, "request": name, "arguments": dict(arguments or {})})


def encode_result(ident: int | str | None, result: Mapping[str, object]) -> bytes:
    """Return the line of an answer, or of an error where the answer is too long for a line."""
    line = _line({"v": VERSION, "id": ident, "ok": True, "result": dict(result)})
    if len(line) <= MAX_LINE_BYTES:
        return line
    return encode_error(
        ident,
        GuestAgentError(
            f"the answer has {len(line)} bytes, a line may have {MAX_LINE_BYTES}",
            hint="ask for one pair at a time",
        ),
    )


def encode_error(ident: int | str | None, error: GuestAgentError) -> bytes:
    """Return the line of a refusal."""
    code = "try-again" if error.exit_code == EXIT_TRY_AGAIN else "failed"
    if isinstance(error, WireError):
        code = "bad-request"
    body = {"code": code, "message": error.message, "hint": error.hint}
    return _line({"v": VERSION, "id": ident, "ok": False, "error": body})


def parse_object(line: bytes) -> Obj:
    """Return the whole object of a line, bounded in length and depth. Raises WireError."""
    if len(line) > MAX_LINE_BYTES:
        raise WireError(f"a line may have {MAX_LINE_BYTES} bytes, this has {len(line)}")
    try:
        return Obj.parse(line, Bounds(depth=MAX_DEPTH))
    except JsonError as error:
        raise WireError(str(error)) from error


def _line(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
