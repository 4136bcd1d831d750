"""The host's end of the agent's own virtio-serial port, for planned switches."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from guestagent.errors import PeerError
from lab.machine import Machine

ANSWER_TIMEOUT_S = 60.0


class Channel:
    """A context manager: a connection to the agent of one guest.

    :raise PeerError: the agent refuses a request or does not answer.
    """

    def __init__(self, machine: Machine) -> None:
        self._path = machine.directory / "agent.sock"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(ANSWER_TIMEOUT_S)

    def __enter__(self) -> Self:
        self._socket.connect(str(self._path))
        self._lines = self._socket.makefile("rb")
        # Ends what the port's last user may have left of a line.
        self._socket.sendall(b"\n")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lines.close()
        self._socket.close()

    def ask(self, request: str, **arguments: object) -> Mapping[str, Any]:
        """Make a request and return its result."""
        line = json.dumps({"v": 1, "id": request, "request": request, "arguments": arguments})
        try:
            self._socket.sendall(line.encode() + b"\n")
            answer = json.loads(self._lines.readline())
        except (OSError, ValueError) as error:
            raise PeerError(f"the agent does not answer to {request}: {error}") from error
        if not answer["ok"]:
            raise PeerError(f"the agent refuses {request}: {answer['error']}")
        return dict(answer["result"])
