"""The protocol between the helpers of two hosts, over a pipe: one JSON object a line.

::

    {"v": 1, "id": 7, "call": "plug", "arguments": [{"is": "Device", …}, 120.0]}
    {"v": 1, "id": 7, "ok": true, "value": null}
    {"v": 1, "id": 7, "ok": false, "error": {"kind": "refused", "message": …, "hint": …}}

The calls and their types are those of the Protocols below. Both ends check the types and bound
the length of a line. A far end that gets no call sends an empty line now and then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from guestagent import errors
from guestagent.codec import plain, value_of
from guestagent.forwarding import Call, calls_of
from guestagent.host.hypervisor.base import Guest, MigrationDestination, RefusedError
from guestagent.host.hypervisor.reply import shown
from guestagent.host.model import Endpoint as Sockets
from guestagent.host.sriov.base import NotLeasedError, NoVfError, VfPool, VfRefusedError
from guestagent.json_fields import JsonError, Obj

VERSION = 1
MAX_LINE_BYTES = 4 * 1024 * 1024
_MAX_TEXT = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The argument of the first call: the VM, and the sockets of its QEMU on the far host."""

    vm: str
    sockets: Sockets
    command_s: float


class Greeting(Protocol):
    """The first call."""

    async def hello(self, hello: Hello) -> None:
        """Name the VM, before any other call."""


GREETING = calls_of(Greeting)
DESTINATION = calls_of(MigrationDestination, but=frozenset({"close"}))
GUEST = {f"guest.{name}": call for name, call in calls_of(Guest).items()}
VFS = {f"vf.{name}": call for name, call in calls_of(VfPool).items()}
CALLS: Mapping[str, Call] = {**GREETING, **DESTINATION, **GUEST, **VFS}

# The first class that fits names an error; so the special ones come first.
_KINDS: Mapping[str, type[errors.GuestAgentError]] = {
    "refused": RefusedError,
    "no-vf": NoVfError,
    "not-leased": NotLeasedError,
    "vf-refused": VfRefusedError,
    "busy": errors.BusyError,
    "deadline": errors.DeadlineError,
    "unknown-outcome": errors.UnknownOutcomeError,
    "lacks": errors.SystemLacksError,
    "conflict": errors.ConflictError,
    "peer": errors.PeerError,
}


def request(ident: int, name: str, arguments: tuple[object, ...]) -> bytes:
    """Return the line of a call. Raises PeerError when the other end would refuse its length."""
    line = _line({"id": ident, "call": name, "arguments": plain(arguments)})
    if len(line) > MAX_LINE_BYTES:
        raise errors.PeerError(
            f"{name}: a call may have {MAX_LINE_BYTES} bytes, this has {len(line)}"
        )
    return line


def read_request(line: bytes) -> tuple[int, str, tuple[Any, ...]]:
    """Return a call's id, name and arguments. Raises JsonError."""
    value = _parse(line)
    ident, name = value.integer("id"), value.string("call")
    call = CALLS.get(name)
    if call is None:
        raise JsonError(f"there is no call {shown(name)!r}")
    listed = value.value.get("arguments")
    if not isinstance(listed, list) or len(listed) != len(call.parameters):
        raise JsonError(f"{name} takes {len(call.parameters)} arguments")
    types = call.parameters.values()
    arguments = (value_of(kind, each) for kind, each in zip(types, listed, strict=True))
    return ident, name, tuple(arguments)


def answer(ident: int, value: object) -> bytes:
    """Return the line for a call that succeeded.

    Raises UnknownOutcomeError when the other end would refuse its length: the call has run.
    """
    line = _line({"id": ident, "ok": True, "value": plain(value)})
    if len(line) > MAX_LINE_BYTES:
        raise errors.UnknownOutcomeError(
            f"an answer may have {MAX_LINE_BYTES} bytes, not {len(line)}"
        )
    return line


def failure(ident: int | None, error: errors.GuestAgentError) -> bytes:
    """Return the line for a call that failed."""
    kind = next((name for name, each in _KINDS.items() if isinstance(error, each)), "peer")
    body = {"kind": kind, "message": error.message[:_MAX_TEXT], "hint": error.hint}
    return _line({"id": ident, "ok": False, "error": body})


def read_answer(line: bytes, ident: int, name: str, origin: str) -> Any:
    """Return the result of a call.

    Raises the error of the far end, and UnknownOutcomeError when the line is no answer
    to this call: it may have run.
    """
    try:
        value = _parse(line)
        mine = value.integer("id") == ident
        if mine and value.boolean("ok"):
            return value_of(CALLS[name].result, value.value.get("value"))
        body = value.object("error")
        kind = (
            _KINDS.get(body.string("kind"), errors.PeerError)
            if mine
            else errors.UnknownOutcomeError
        )
        message, hint = body.string("message"), body.optional_string("hint")
    except JsonError as error:
        raise errors.UnknownOutcomeError(
            f"{origin}: {name}: {shown(str(error))}",
            hint="check that the far host has guestagent-host of the same version",
        ) from error
    raise kind(f"{origin}: {shown(message)}", hint=None if hint is None else shown(hint))


def _parse(line: bytes) -> Obj:
    value = Obj.parse(line)
    if value.integer("v") != VERSION:
        raise JsonError(f"protocol version {value.integer('v')}, this program knows {VERSION}")
    return value


def _line(value: Mapping[str, object]) -> bytes:
    return json.dumps({"v": VERSION, **value}, separators=(",", ":")).encode() + b"\n"
