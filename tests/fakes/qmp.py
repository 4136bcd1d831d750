"""A fake QEMU: a QMP socket, and the state behind it.

It has devices, a run state and a migration, answers like QEMU (the contract tests also run on
a real one), and fails on request: ``faults`` lists for each command what to do instead, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fakes.faults import INSTEAD, Ending, Fault, Guest
from tests.fakes.pcitree import PciTree
from tests.fakes.serving import close

__all__ = ["GREETING", "Ending", "FakeQemu", "Fault", "Guest"]

GREETING = {
    "QMP": {"version": {"qemu": {"major": 10, "minor": 0, "micro": 2}}, "capabilities": []}
}


_CAPABILITIES = (
    "events",
    "return-path",
    "postcopy-ram",
    "auto-converge",
    "multifd",
    "validate-uuid",
)


class _CommandError(Exception):
    def __init__(self, text: str, kind: str = "GenericError") -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(slots=True, kw_only=True)
class FakeQemu:
    """One QEMU. ``peer`` is the other end of a migration."""

    path: Path
    run_state: str = "running"
    migration: str | None = None
    devices: dict[str, dict[str, Any]] = field(default_factory=dict)
    guest: Guest = Guest.RELEASES
    ending: Ending = Ending.COMPLETES
    peer: FakeQemu | None = None
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    cut_at: int = 10
    commands: list[str] = field(default_factory=list)
    asked_devices: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    capabilities: set[str] = field(default_factory=set)
    can: set[str] = field(default_factory=lambda: set(_CAPABILITIES))
    version: tuple[int, int, int] = (10, 0, 2)
    fixed_ports: set[str] = field(default_factory=set)
    moved_ports: int = 0
    on_command: Callable[[str], None] = lambda _command: None
    _steps: int = 0
    _listening: bool = False
    _server: asyncio.Server | None = None
    _clients: set[asyncio.StreamWriter] = field(default_factory=set)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[FakeQemu]:
        """Listen on the socket for as long as the context lasts."""
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        try:
            yield self
        finally:
            if self._server is not None:
                await close(self._server)
            self.end()
            await asyncio.sleep(0)

    def end(self) -> None:
        """Be a process that has ended: nothing listens, all connections are closed."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.path.unlink(missing_ok=True)
        self._drop_clients()

    def event(self, name: str, **data: object) -> None:
        """Tell every client of an event."""
        now_s = time.time()
        stamp = {"seconds": int(now_s), "microseconds": int(now_s % 1 * 1e6)}
        message = json.dumps({"event": name, "data": data, "timestamp": stamp}).encode()
        for client in self._clients:
            client.write(message + b"\r\n")

    # --- the wire ---------------------------------------------------------------------------

    def _drop_clients(self) -> None:
        for client in tuple(self._clients):
            client.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(json.dumps(GREETING).encode() + b"\r\n")
        self._clients.add(writer)
        text = ""
        decoder = json.JSONDecoder()
        try:
            while not writer.is_closing() and (data := await reader.read(65536)):
                text += data.decode()
                # qemu.qmp sends no newline between requests: find where each ends.
                while text := text.lstrip():
                    try:
                        request, end = decoder.raw_decode(text)
                    except ValueError:
                        break
                    text = text[end:]
                    self._answer(request, writer)
        except ConnectionError:
            pass
        finally:
            self._clients.discard(writer)
            writer.close()

    def _answer(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        command = request["execute"]
        self.commands.append(command)
        self.on_command(command)
        waiting = self.faults.get(command)
        fault = waiting.pop(0) if waiting else None
        if fault is Fault.HANG_UP_BEFORE:
            self._drop_clients()
            return
        line = json.dumps(self._reply(request, fault)).encode() + b"\r\n"
        match fault:
            case Fault.SILENT:
                pass
            case Fault.HANG_UP_AFTER:
                self._drop_clients()
            case Fault.HANG_UP_FOR_GOOD:
                self.end()
            case Fault.CUT:
                writer.write(line[: self.cut_at])
                writer.close()
            case Fault.OTHER_ID_FIRST:
                other = json.dumps({"id": "__qmp#99999", "return": {"status": "shutdown"}})
                writer.write(other.encode() + b"\r\n" + line)
            case _:
                writer.write(INSTEAD.get(fault, line) if fault else line)

    def _reply(self, request: dict[str, Any], fault: Fault | None) -> dict[str, Any]:
        ident, command = request.get("id"), request["execute"]
        if fault is Fault.WRONG_TYPE:
            return {"id": ident, "return": 42}
        if fault is Fault.REFUSE:
            error = {"class": "GenericError", "desc": f"{command} was refused on request"}
            return {"id": ident, "error": error}
        try:
            return {"id": ident, "return": self._run(command, request.get("arguments", {}))}
        except _CommandError as error:
            return {"id": ident, "error": {"class": error.kind, "desc": str(error)}}

    # --- the commands -----------------------------------------------------------------------

    def _run(self, command: str, arguments: dict[str, Any]) -> object:
        method = getattr(self, "_" + command.replace("-", "_"), None)
        if method is None:
            raise _CommandError(f"The command {command} has not been found", "CommandNotFound")
        return method(**arguments)

    def _qmp_capabilities(self, **_: object) -> object:
        return {}

    def _query_status(self) -> object:
        return {"status": self.run_state, "running": self.run_state == "running"}

    def _device_add(self, *, driver: str, id: str, bus: str, **more: Any) -> object:  # noqa: A002
        if id in self.devices:
            raise _CommandError(f"Duplicate device ID '{id}'")
        if any(device["bus"] == bus for device in self.devices.values()):
            raise _CommandError(
                f"PCI: slot 0 function 0 already occupied by {driver}, new func {driver} cannot"
                " be exposed to guest."
            )
        self.devices[id] = {"driver": driver, "bus": bus, **more}
        return {}

    def _device_del(self, *, id: str) -> object:  # noqa: A002
        if id not in self.devices:
            raise _CommandError(f"Device '{id}' not found", "DeviceNotFound")
        self.asked_devices.append(id)
        if self.guest is Guest.RELEASES_LATE and len(self.asked_devices) > 1:
            asyncio.get_running_loop().call_soon(self._release, id)
            raise _CommandError(f"Device {id} is already in the process of unplug")
        if self.guest is Guest.RELEASES_FIRST:
            self._release(id)
        else:
            asyncio.get_running_loop().call_soon(self._respond, id)
        return {}

    def _respond(self, device: str) -> None:
        match self.guest:
            case Guest.RELEASES:
                self._release(device)
            case Guest.RELEASES_UNSEEN:
                self.devices.pop(device, None)
            case Guest.REFUSES:
                self.event(
                    "DEVICE_UNPLUG_GUEST_ERROR",
                    device=device,
                    path=f"/machine/peripheral/{device}",
                )

    def _release(self, device: str) -> None:
        self.devices.pop(device, None)
        # A device's parts have no id of their own and go first.
        self.event("DEVICE_DELETED", path=f"/machine/peripheral/{device}/virtio-backend")
        self.event("DEVICE_DELETED", device=device, path=f"/machine/peripheral/{device}")

    @property
    def _tree(self) -> PciTree:
        return PciTree(
            vfs=self.devices, fixed_ports=self.fixed_ports, moved_ports=self.moved_ports
        )

    def _qom_list(self, *, path: str) -> object:
        return self._tree.qom_list(path)

    def _qom_get(self, *, path: str, property: str) -> object:  # noqa: A002
        return self._tree.qom_get(path, property)

    def _query_pci(self) -> object:
        return self._tree.query_pci()

    def _query_migrate_capabilities(self) -> object:
        on = self.capabilities
        return [{"capability": name, "state": name in on} for name in sorted(self.can)]

    def _query_version(self) -> object:
        major, minor, micro = self.version
        return {"qemu": {"major": major, "minor": minor, "micro": micro}, "package": ""}

    def _query_memory_size_summary(self) -> object:
        return {"base-memory": 2**28, "plugged-memory": 0}

    def _migrate_set_capabilities(self, *, capabilities: list[dict[str, Any]]) -> object:
        for item in capabilities:
            change = self.capabilities.add if item["state"] else self.capabilities.discard
            change(item["capability"])
        return {}

    def _migrate_set_parameters(self, **parameters: object) -> object:
        self.parameters.update(parameters)
        return {}

    def _query_migrate_parameters(self) -> object:
        return {"downtime-limit": 300, "max-bandwidth": 134217728} | self.parameters

    def _migrate_incoming(self, *, uri: str) -> object:
        if self.run_state != "inmigrate":
            raise _CommandError("'-incoming' was not specified on the command line")
        if self._listening:
            raise _CommandError("The incoming migration has already been started")
        self._listening = True
        self._move_to("setup")
        return {}

    def _migrate(self, *, uri: str) -> object:
        if self.peer is None or not self.peer._listening:
            self._fail(f"Failed to connect to '{uri}': No such file or directory")
            return {}
        self._steps = 0
        self._move_to("setup")
        self._move_to("active")
        self.peer._move_to("active")
        return {}

    def _migrate_start_postcopy(self) -> object:
        if self.migration != "active":
            raise _CommandError("Start of postcopy is only possible while the migration is active")
        self._move_to("postcopy-active")
        self.run_state = "finish-migrate"
        self.event("STOP")
        if self.peer is not None:
            self.peer.run_state = "running"
            self.peer.event("RESUME")
        return {}

    def _migrate_cancel(self) -> object:
        if self.migration in {"setup", "active"}:
            self._move_to("cancelling")
            asyncio.get_running_loop().call_soon(self._cancelled)
        return {}

    def _cancelled(self) -> None:
        self._move_to("cancelled")
        if self.peer is not None:
            self.peer.end()

    def _cont(self) -> object:
        self.run_state = "running"
        self.event("RESUME")
        return {}

    def _query_migrate(self) -> object:
        if self.migration is None:
            return {}
        moving = self.migration in {"active", "postcopy-active"}
        if moving and self.peer is not None and not self._listening:
            self._advance(self.peer)
        elif self._steps and self.run_state == "inmigrate" and self.migration == "completed":
            self._steps -= 1
            if not self._steps:
                self._start()
        reply: dict[str, Any] = {"status": self.migration}
        if self.migration in {"active", "postcopy-active", "completed"} and not self._listening:
            reply["ram"] = {
                "transferred": 2**20 * self._steps,
                "remaining": 2**20 * (4 - self._steps),
                "total": 2**22,
                "mbps": 800.5,
                "dirty-sync-count": 1 + self._steps // 2,
            }
        if self.migration == "completed" and not self._listening:
            reply |= {"total-time": 1234, "downtime": 45, "setup-time": 3}
        if self.migration == "failed":
            reply["error-desc"] = "Unable to write to socket: Broken pipe"
        return reply

    def _advance(self, peer: FakeQemu) -> None:
        self._steps += 1
        if self._steps < 4 or self.ending is Ending.NEVER:
            self._move_to(self.migration or "active")
            return
        if self.ending in {Ending.FAILS, Ending.FAILS_STOPPED}:
            if self.ending is Ending.FAILS_STOPPED:
                self.run_state = "paused"
            peer.end()
            self._fail("Unable to write to socket: Broken pipe")
            return
        self.run_state = "postmigrate"
        self.event("STOP")
        self._move_to("completed")
        peer._arrive(self.ending)

    def _arrive(self, ending: Ending) -> None:
        self._move_to("completed")
        match ending:
            case Ending.STARTS_LATE:
                self._steps = 3
            case Ending.STAYS_STOPPED:
                self.run_state = "paused"
            case _:
                self._start()

    def _start(self) -> None:
        self.run_state = "running"
        self.event("RESUME")

    def _fail(self, _why: str) -> None:
        self._move_to("failed")

    def _move_to(self, status: str) -> None:
        self.migration = status
        if "events" in self.capabilities:
            self.event("MIGRATION", status=status)
