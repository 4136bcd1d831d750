"""Commands in a guest, over a virtio-serial port (the guest's side: guestside/commands.py).

Against ssh: no NIC in the guest that is not under test, no keys, no handshake of a second
under emulation, and it works from early boot on and through a migration.
"""

from __future__ import annotations

import itertools
import json
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guestagent.clock import Deadline
from guestagent.errors import DeadlineError, PeerError


class QemuGoneError(PeerError):
    """The QEMU of a guest has closed its end of the port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The result of one command."""

    code: int | None
    """The exit code; None for a command that was killed at its time limit."""
    stdout: str
    stderr: str


def connected(path: Path) -> socket.socket:
    """Return a connection to the Unix socket at ``path``."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(path))
    return connection


class Commands:
    """The host's end of the port of one QEMU. Commands may run side by side, from any thread."""

    def __init__(self, path: Path | socket.socket, *, name: str) -> None:
        self._name = name
        self._ids = itertools.count()
        self._replies: dict[int, Mapping[str, Any]] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._socket = path if isinstance(path, socket.socket) else connected(path)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def close(self) -> None:
        """Close the port; waiting calls fail with QemuGoneError."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._socket.close()

    def run(self, script: str, *, stdin: str = "", timeout_s: float) -> Completed:
        """Run a bash script as root and wait for its end.

        Also waits for background processes that hold its stdout or stderr.
        After ``timeout_s`` it is killed; a guest that does not even tell this within ten
        seconds more is held to be stuck.

        :raise DeadlineError: the guest does not answer.
        :raise QemuGoneError: QEMU has ended.
        """
        number = next(self._ids)
        request = {"id": number, "script": script, "stdin": stdin, "timeout_s": timeout_s}
        deadline = Deadline.after(timeout_s + 10)
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise QemuGoneError(f"{self._name}: QEMU is gone: {error}") from error
        with self._changed:
            while number not in self._replies:
                if self._closed:
                    raise QemuGoneError(f"{self._name}: QEMU is gone, while running: {script}")
                if not self._changed.wait(deadline.remaining_s):
                    raise DeadlineError(f"{self._name}: the guest does not answer to: {script}")
            reply = self._replies.pop(number)
        return Completed(code=reply["code"], stdout=reply["stdout"], stderr=reply["stderr"])

    def _read(self) -> None:
        with self._socket.makefile("rb") as lines:
            try:
                for line in lines:
                    reply = json.loads(line)
                    with self._changed:
                        self._replies[reply["id"]] = reply
                        self._changed.notify_all()
            except OSError:
                pass  # the same end as that of the loop
        with self._changed:
            self._closed = True
            self._changed.notify_all()
