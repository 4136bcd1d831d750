"""Client of the running agent: one request over the control socket."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path

from guestagent.errors import BusyError, GuestAgentError, PeerError
from guestagent.json_fields import JsonError, Obj
from guestagent.protocol import MAX_LINE_BYTES, SOCKET, encode_request, parse_object

TIMEOUT_S = 330.0
"""Longer than the agent waits in any request."""


class NotRunningError(GuestAgentError):
    """No process listens on the control socket."""


def ask(name: str, arguments: Mapping[str, object] | None = None, *, path: Path = SOCKET) -> Obj:
    """Return the result of a request. Raises NotRunningError and the error of the answer."""
    return _result(exchange(encode_request(name, ident=1, arguments=arguments), path=path), path)


def exchange(request: bytes, *, path: Path = SOCKET) -> bytes:
    """Return the answer to a line. Raises NotRunningError, PeerError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(TIMEOUT_S)
            sock.connect(str(path))
            sock.sendall(request)
            with sock.makefile("rb") as stream:
                line = stream.readline(MAX_LINE_BYTES + 1)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NotRunningError(
            "the agent is not running", hint="start it: systemctl start guestagent"
        ) from error
    except PermissionError as error:
        raise GuestAgentError(f"no access to {path}", hint="run it as root") from error
    except OSError as error:
        raise PeerError(
            f"the agent did not answer on {path}: {error}", hint="see journalctl -u guestagent"
        ) from error
    if not line:
        raise PeerError("the agent ended before it answered", hint="see journalctl -u guestagent")
    return line


def _result(line: bytes, path: Path) -> Obj:
    try:
        reply = parse_object(line)
        if reply.boolean("ok"):
            return reply.object("result")
        error = reply.object("error")
        kind = BusyError if error.string("code") == "try-again" else PeerError
        hint = error.string("hint") if error.has("hint") else None
        raise kind(error.string("message"), hint=hint)
    except JsonError as error:
        raise PeerError(
            f"the answer on {path} is not the agent's protocol: {error}",
            hint="another program or version may listen there; restart guestagent",
        ) from error
