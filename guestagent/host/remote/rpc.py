"""What one host's helper asks of another's over a pipe: one JSON object a line.

::

    {"v": 1, "id": 7, "call": "plug", "arguments": [{"is": "Device", …}, 120.0]}
    {"v": 1, "id": 7, "ok": true, "value": null}
    {"v": 1, "id": 7, "ok": false, "error": {"kind": "refused", "message": …, "hint": …}}

Both ends hold what comes against the types below, and bound its length. A far end that is
asked nothing sends an empty line now and then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from guestagent.codec import plain, value_of
from guestagent.errors import (
    BusyError,
    ConflictError,
    DeadlineError,
    GuestAgentError,
    PeerError,
    SystemLacksError,
    UnknownOutcomeError,
)
from guestagent.host.hypervisor.base import RefusedError
from guestagent.host.hypervisor.reply import shown
from guestagent.host.model import (
    Device,
    GuestPair,
    MigrationSettings,
    QemuCapabilities,
    QemuState,
    Topology,
)
from guestagent.host.model import Endpoint as Sockets
from guestagent.host.sriov.base import NotLeasedError, NoVfError, VfRefusedError
from guestagent.host.sriov.core.model import (
    Inventory,
    Lease,
    Macvtap,
    Owner,
    Standby,
    VfSettings,
    Want,
)
from guestagent.json_fields import JsonError, Obj

VERSION = 1
MAX_LINE_BYTES = 4 * 1024 * 1024
_MAX_TEXT = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The first call: which VM it is about, and where its QEMU at the far host is."""

    vm: str
    sockets: Sockets
    command_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The types of a call's arguments and of its value."""

    takes: tuple[Any, ...] = ()
    gives: Any = None


CALLS: Mapping[str, Call] = {
    "hello": Call(takes=(Hello,)),
    "look": Call(gives=QemuState),
    "unplug": Call(takes=(str, float)),
    "plug": Call(takes=(Device, float)),
    "expect_migration": Call(takes=(str, MigrationSettings)),
    "proceed": Call(),
    "wait_for_change": Call(takes=(float,)),
    "topology": Call(gives=Topology),
    "means": Call(gives=QemuCapabilities),
    "guest.to_standby": Call(takes=(tuple[str, ...], float)),
    "guest.to_vf": Call(takes=(tuple[str, ...], float)),
    "guest.pairs": Call(gives=tuple[GuestPair, ...]),
    "vf.inventory": Call(gives=Inventory),
    "vf.leases": Call(takes=(str | None,), gives=tuple[Lease, ...]),
    "vf.claim": Call(takes=(Want, Owner), gives=Lease),
    "vf.adopt": Call(takes=(str, Owner, VfSettings), gives=Lease),
    "vf.program": Call(takes=(Lease, VfSettings), gives=Lease),
    "vf.settle": Call(takes=(Lease,), gives=Lease),
    "vf.withdraw": Call(takes=(Lease,), gives=Lease),
    "vf.release": Call(takes=(Lease,), gives=tuple[str, ...]),
    "vf.open_standby": Call(takes=(Standby,), gives=tuple[str, ...]),
    "vf.create_macvtap": Call(takes=(Lease, str, str), gives=Macvtap),
    "vf.close_standby": Call(takes=(Standby,), gives=tuple[str, ...]),
}

# The first class that fits names an error; so the special ones come first.
_KINDS: Mapping[str, type[GuestAgentError]] = {
    "refused": RefusedError,
    "no-vf": NoVfError,
    "not-leased": NotLeasedError,
    "vf-refused": VfRefusedError,
    "busy": BusyError,
    "deadline": DeadlineError,
    "unknown-outcome": UnknownOutcomeError,
    "lacks": SystemLacksError,
    "conflict": ConflictError,
    "peer": PeerError,
}


def request(ident: int, name: str, arguments: tuple[object, ...]) -> bytes:
    """Return the line of a call."""
    return _line({"id": ident, "call": name, "arguments": plain(arguments)})


def read_request(line: bytes) -> tuple[int, str, tuple[Any, ...]]:
    """Return a call's id, name and arguments. Raises JsonError."""
    value = _parse(line)
    ident, name = value.integer("id"), value.string("call")
    call = CALLS.get(name)
    if call is None:
        raise JsonError(f"there is no call {shown(name)!r}")
    listed = value.value.get("arguments")
    if not isinstance(listed, list) or len(listed) != len(call.takes):
        raise JsonError(f"{name} takes {len(call.takes)} arguments")
    return (
        ident,
        name,
        tuple(value_of(kind, each) for kind, each in zip(call.takes, listed, strict=True)),
    )


def answer(ident: int, value: object) -> bytes:
    """Return the line that says that a call succeeded."""
    return _line({"id": ident, "ok": True, "value": plain(value)})


def failure(ident: int | None, error: GuestAgentError) -> bytes:
    """Return the line that says how a call failed."""
    kind = next((name for name, each in _KINDS.items() if isinstance(error, each)), "peer")
    told = {"kind": kind, "message": error.message[:_MAX_TEXT], "hint": error.hint}
    return _line({"id": ident, "ok": False, "error": told})


def read_answer(line: bytes, ident: int, name: str, origin: str) -> Any:
    """Return the value that a call came to.

    Raises the error that the far side had, and UnknownOutcomeError when the line is no answer
    to this call: it may have run.
    """
    try:
        value = _parse(line)
        mine = value.integer("id") == ident
        if mine and value.boolean("ok"):
            return value_of(CALLS[name].gives, value.value.get("value"))
        told = value.object("error")
        kind = _KINDS.get(told.string("kind"), PeerError) if mine else UnknownOutcomeError
        message, hint = told.string("message"), told.optional_string("hint")
    except JsonError as error:
        raise UnknownOutcomeError(
            f"{origin}: {name}: {shown(str(error))}",
            hint="is the other end guestagent-host of the same version?",
        ) from error
    raise kind(f"{origin}: {shown(message)}", hint=None if hint is None else shown(hint))


def _parse(line: bytes) -> Obj:
    value = Obj.parse(line)
    if value.integer("v") != VERSION:
        raise JsonError(f"protocol version {value.integer('v')}, this program knows {VERSION}")
    return value


def _line(value: Mapping[str, object]) -> bytes:
    return json.dumps({"v": VERSION, **value}, separators=(",", ":")).encode() + b"\n"
