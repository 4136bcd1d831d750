"""Client of qemu-ga, the QEMU guest agent. Its answers are claims of the guest, never a proof.

The guest is not trusted: answers are bounded in size, number and time, and
text is stripped of control characters. Each request makes a connection of its
own, for the channel has no notion of one: an answer to an earlier request may
still come, so a ``guest-sync`` with a fresh number goes first (Q:
docs/interop/qemu-ga-ref, guest-sync). ``guest-sync-delimited`` would end the
connection: qemu.qmp cannot take its 0xFF byte.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from guestagent.clock import Deadline
from guestagent.errors import UnknownOutcomeError
from guestagent.host.hypervisor.qmp.client import Connection
from guestagent.host.hypervisor.reply import Reply, shown
from guestagent.host.model import GuestInterface

_MAX_INTERFACES = 256
_MAX_ADDRESSES = 64
_EXEC_POLL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The end of a program in the guest; ``output`` is the guest's base64."""

    exit_code: int | None
    output: str


class QemuGuestAgent:
    """qemu-ga behind a socket chardev."""

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        self.origin = f"guest agent at {path}"
        self._path = path
        self._timeout_s = timeout_s

    async def interfaces(self) -> tuple[GuestInterface, ...]:
        """Return the interfaces that the guest lists, at most 256.

        Raises PeerError or UnknownOutcomeError when the guest gives no usable
        answer in time; nothing was changed.
        """
        reply = await self._ask("guest-network-get-interfaces")
        return tuple(_interface(item) for item in islice(reply.items(), _MAX_INTERFACES))

    async def run(
        self, program: str, arguments: Sequence[str], *, stdin: bytes, timeout_s: float
    ) -> Ended:
        """Run a program in the guest until it has ended.

        Raises RefusedError where guest-exec is blocked, as some distributions
        do; PeerError or UnknownOutcomeError when it did not end in time: it may
        still be running.
        """
        deadline = Deadline.after(timeout_s)
        started = await self._ask(
            "guest-exec",
            {
                "path": program,
                "arg": list(arguments),
                "input-data": base64.b64encode(stdin).decode(),
                "capture-output": True,
            },
        )
        pid = started.integer("pid")
        while True:
            status = await self._ask("guest-exec-status", {"pid": pid})
            if status.boolean("exited"):
                return Ended(
                    exit_code=status.optional_integer("exitcode"),
                    output=status.optional_string("out-data") or "",
                )
            if deadline.expired:
                raise UnknownOutcomeError(
                    f"{self.origin}: {program} has not ended within {timeout_s:g} s"
                )
            # There is no event for the end of the program.
            await asyncio.sleep(_EXEC_POLL_S)

    async def _ask(self, command: str, arguments: Mapping[str, object] | None = None) -> Reply:
        deadline = Deadline.after(self._timeout_s)
        connection = await Connection.open(
            self._path, origin=self.origin, timeout_s=deadline.remaining_s, greets=False
        )
        async with connection:
            while True:
                number = secrets.randbelow(2**31)
                echo = await connection.execute(
                    "guest-sync", {"id": number}, timeout_s=deadline.remaining_s
                )
                if echo.integer() == number:
                    return await connection.execute(
                        command, arguments, timeout_s=deadline.remaining_s
                    )


def _interface(item: Reply) -> GuestInterface:
    addresses = item.items("ip-addresses") if item.has("ip-addresses") else ()
    mac = item.optional_string("hardware-address")
    return GuestInterface(
        name=shown(item.string("name")),
        mac=None if mac is None else shown(mac).lower(),
        addresses=tuple(
            f"{shown(address.string('ip-address'))}/{address.integer('prefix')}"
            for address in islice(addresses, _MAX_ADDRESSES)
        ),
    )
