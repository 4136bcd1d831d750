"""A QEMU behind its QMP socket: both roles of a migration."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from guestagent.clock import Deadline
from guestagent.errors import PeerError, UnknownOutcomeError
from guestagent.host import model
from guestagent.host.hypervisor.base import ConnectionLostError, GoneError, RefusedError
from guestagent.host.hypervisor.qmp import client
from guestagent.host.hypervisor.qmp.downtime import DowntimeRamp, first_limit_ms
from guestagent.host.hypervisor.qmp.locked import lockable_by
from guestagent.host.hypervisor.qmp.pci import devices_with_id, read_topology
from guestagent.host.hypervisor.reply import Reply, shown

log = logging.getLogger(__name__)

_POLL_S = 0.5
_PASSES = "dirty-sync-count"
_MAX_MOMENTS = 256
_MOMENT_EVENTS = ("STOP", "RESUME")
_POSTCOPY = "postcopy-active"
_PAUSED = "postcopy-paused"
_POSTCOPY_PAUSED = (
    "post-copy is paused because its connection was lost: the guest stops where its memory is"
    " missing. Continue with migrate-recover at the destination and then migrate with"
    ' "resume": true here, over another QMP socket each; end neither QEMU, as each has a part of'
    " the guest. The migration is still followed"
)
# Q: system/qdev-monitor.c, qmp_device_del: the guest still has an earlier request.
_ALREADY_ASKED = "already in the process of unplug"


class Qemu:
    """One QEMU; connects at the first command, and again after a connection was lost.

    Its methods are documented in ``MigrationSource`` and ``MigrationDestination``.
    """

    def __init__(self, socket: Path, end: model.End, *, timeout_s: float) -> None:
        self._socket = socket
        self._end = end
        self._timeout_s = timeout_s
        self._origin = f"{end} QEMU at {socket}"
        self._connection: client.Connection | None = None
        self._changes: client.EventStream | None = None
        self._streams = ExitStack()
        self._moments: deque[model.Moment] = deque(maxlen=_MAX_MOMENTS)
        self._bandwidth_found: int | None = None
        self._capabilities_found: dict[str, bool] = {}
        self._postcopy_asked = False

    # --- state ------------------------------------------------------------------------------

    @property
    def moments(self) -> tuple[model.Moment, ...]:
        self._note_changes()
        return tuple(self._moments)

    async def look(self) -> model.QemuState:
        try:
            return await self._view()
        except GoneError as gone:
            return model.QemuState(end=self._end, unreachable=str(gone), gone=True)
        except (PeerError, UnknownOutcomeError) as silent:
            return model.QemuState(end=self._end, unreachable=str(silent))

    async def _view(self) -> model.QemuState:
        # The migration is queried first: if it ends in between, the answers show it still under
        # way, and never a running guest that has already left.
        try:
            migration = await self._run("query-migrate")
        except ConnectionLostError:  # a new connection shows whether QEMU has ended
            migration = await self._run("query-migrate")
        status = await self._run("query-status")
        error = migration.optional_string("error-desc")
        return model.QemuState(
            end=self._end,
            run_state=status.string("status"),
            migration=migration.optional_string("status"),
            migration_error=None if error is None else shown(error),
            devices=await devices_with_id(self._run),
        )

    async def topology(self) -> model.Topology:
        return await read_topology(self._run)

    async def capabilities(self) -> model.QemuCapabilities:
        listed = await self._run("query-migrate-capabilities")
        memory = await self._run("query-memory-size-summary")
        version = (await self._run("query-version")).object("qemu")
        lockable_bytes, process = lockable_by(self._socket)
        return model.QemuCapabilities(
            version=tuple(version.integer(part) for part in ("major", "minor", "micro")),
            capabilities=frozenset(item.string("capability") for item in listed.items()),
            memory_bytes=memory.integer("base-memory"),
            lockable_bytes=lockable_bytes,
            process=process,
        )

    async def wait_for_change(self, timeout_s: float) -> None:
        await self._connected()
        if self._changes is not None:
            event = await self._changes.next(timeout_s)
            if event is not None:
                self._note(event)

    # --- devices ----------------------------------------------------------------------------

    async def unplug(self, device_id: str, timeout_s: float) -> None:
        connection = await self._connected()
        deadline = Deadline.after(timeout_s)
        # The stream is opened before the request: the event may come before the answer.
        with connection.events("DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR") as events:
            try:
                await self._run("device_del", {"id": device_id})
            except client.CommandRefusedError as refusal:
                if refusal.error_class == "DeviceNotFound":
                    return
                if _ALREADY_ASKED not in refusal.reason:
                    raise
            while (event := await events.next(deadline.remaining_s)) is not None:
                if event.data.optional_string("device") != device_id:
                    continue
                if event.name == "DEVICE_DELETED":
                    self._note(event, vf=device_id)
                    return
                raise RefusedError(f"the guest refused to release {device_id}")
        if device_id in await devices_with_id(self._run):
            raise RefusedError(f"the guest did not release {device_id} within {timeout_s:g} s")

    async def plug(self, device: model.Device, timeout_s: float) -> None:
        arguments = {
            "driver": device.driver,
            "id": device.id,
            "bus": device.bus,
            **dict(device.properties),
        }
        await self._run("device_add", arguments, timeout_s=timeout_s)
        now_s = time.monotonic()
        self._moments.append(
            model.Moment(
                name="device_added", end=self._end, vf=device.id, at_s=now_s, received_s=now_s
            )
        )

    # --- migration --------------------------------------------------------------------------

    async def expect_migration(self, uri: str, settings: model.MigrationSettings) -> None:
        await self._set_up_migration(settings, {"downtime-limit": settings.downtime_limit_ms})
        await self._run("migrate-incoming", {"uri": uri})

    async def start_migration(self, uri: str, settings: model.MigrationSettings) -> None:
        parameters = {"downtime-limit": first_limit_ms(settings.downtime_limit_ms)}
        if settings.bandwidth_limit_mib_per_s is not None:
            present = await self._run("query-migrate-parameters")
            self._bandwidth_found = present.integer("max-bandwidth")
            parameters["max-bandwidth"] = settings.bandwidth_limit_mib_per_s * 2**20
        await self._set_up_migration(settings, parameters)
        try:
            await self._run("migrate", {"uri": uri})
        except client.CommandRefusedError:
            # One that has begun and failed may be cleaned up still, by what its capabilities are.
            await self._set_capabilities(self._capabilities_found)
            await self._leave_as_found(settings)
            raise

    async def follow_migration(
        self, settings: model.MigrationSettings
    ) -> AsyncIterator[model.Progress]:
        last: tuple[float, int] | None = None
        warned_paused = False
        present = await self._run("query-migrate-parameters")
        ramp = DowntimeRamp(
            present_ms=present.integer("downtime-limit"),
            limit_ms=settings.downtime_limit_ms,
            clock=time.monotonic,
        )
        while True:
            reply = await self._run("query-migrate")
            status = reply.optional_string("status")
            if status in model.MIGRATION_ENDED:
                if status != "completed":
                    await self._leave_as_found(settings)
                return
            if status == _PAUSED and not warned_paused:
                warned_paused = True
                log.warning("%s: %s", self._origin, _POSTCOPY_PAUSED)
            if reply.has("ram"):
                ram = reply.object("ram")
                now_s = time.monotonic()
                progress = _progress(ram, last, now_s)
                last = (now_s, progress.transferred_bytes)
                yield progress
                raised_ms = ramp.raised_ms(
                    passes=ram.integer(_PASSES), remaining_bytes=progress.remaining_bytes
                )
                if raised_ms is not None:
                    await self._run("migrate-set-parameters", {"downtime-limit": raised_ms})
                if settings.postcopy and status == "active" and ram.integer(_PASSES) > 1:
                    await self._start_postcopy()
            await self.wait_for_change(_POLL_S)

    async def cancel_migration(self) -> None:
        migration = await self._run("query-migrate")
        status = migration.optional_string("status") or ""
        if self._postcopy_asked or status.startswith("postcopy"):
            # Each QEMU has a part of the memory; without the other part the guest cannot run.
            raise RefusedError(f"{self._origin}: post-copy has begun, and cannot be cancelled")
        await self._run("migrate_cancel")

    async def figures(self) -> model.MigrationFigures | None:
        reply = await self._run("query-migrate")
        if reply.optional_string("status") != "completed" or not reply.has("total-time"):
            return None
        return model.MigrationFigures(
            total_ms=reply.integer("total-time"),
            downtime_ms=reply.optional_integer("downtime"),
            setup_ms=reply.optional_integer("setup-time"),
            transferred_bytes=reply.object("ram").integer("transferred"),
        )

    async def resume(self) -> None:
        await self._run("cont")

    async def close(self) -> None:
        self._note_changes()
        self._streams.close()
        if self._connection is not None:
            await self._connection.close()
        self._connection = self._changes = None

    # --- inside -----------------------------------------------------------------------------

    async def _set_up_migration(
        self, settings: model.MigrationSettings, parameters: dict[str, int]
    ) -> None:
        listed = await self._run("query-migrate-capabilities")
        on = {item.string("capability") for item in listed.items() if item.boolean("state")}
        wanted = settings.capabilities
        # One that an earlier migration left on is disabled; QEMU need not know the others.
        states = {name: state for name, state in wanted.items() if state or name in on}
        self._capabilities_found = {name: name in on for name in states}
        await self._set_capabilities(states)
        if settings.multifd_channels is not None:
            parameters["multifd-channels"] = settings.multifd_channels
        await self._run("migrate-set-parameters", parameters)

    async def _leave_as_found(self, settings: model.MigrationSettings) -> None:
        """Restore the settings for the next migration of a guest that stayed, also one by hand."""
        parameters = {"downtime-limit": settings.downtime_limit_ms}
        if self._bandwidth_found is not None:
            parameters["max-bandwidth"] = self._bandwidth_found
        await self._run("migrate-set-parameters", parameters)

    async def _set_capabilities(self, states: Mapping[str, bool]) -> None:
        listed = [{"capability": name, "state": state} for name, state in states.items()]
        await self._run("migrate-set-capabilities", {"capabilities": listed})

    async def _start_postcopy(self) -> None:
        """Request post-copy; until QEMU follows, its status is still ``active``.

        A cancellation must not come in between: before 10.0 QEMU accepts one at any time, and
        the source would run again beside the destination (Q: migration/migration.c,
        qmp_migrate_cancel).
        """
        self._postcopy_asked = True
        try:
            await self._run("migrate-start-postcopy")
        except client.CommandRefusedError:  # the migration has just ended
            self._postcopy_asked = False

    async def _connected(self) -> client.Connection:
        if self._connection is not None and self._connection.ended:
            await self.close()
        if self._connection is None:
            self._connection = await client.Connection.open(
                self._socket, origin=self._origin, timeout_s=self._timeout_s
            )
            self._changes = self._streams.enter_context(
                self._connection.events(*_MOMENT_EVENTS, "MIGRATION")
            )
        return self._connection

    async def _run(
        self,
        command: str,
        arguments: Mapping[str, object] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> Reply:
        connection = await self._connected()
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        return await connection.execute(command, arguments, timeout_s=limit_s)

    def _note_changes(self) -> None:
        if self._changes is not None:
            for event in self._changes.drain():
                self._note(event)

    def _note(self, event: client.Event, *, vf: str | None = None) -> None:
        name = event.name
        if name == "MIGRATION" and event.data.optional_string("status") == _POSTCOPY:
            name = "POSTCOPY"
        if vf is not None or name in {*_MOMENT_EVENTS, "POSTCOPY"}:
            self._moments.append(
                model.Moment(
                    name=name.lower(),
                    end=self._end,
                    vf=vf,
                    at_s=event.at_s,
                    received_s=event.received_s,
                )
            )


def _progress(ram: Reply, last: tuple[float, int] | None, now_s: float) -> model.Progress:
    """Read the progress; the rate since ``last`` (time, bytes), at first QEMU's own."""
    transferred = ram.integer("transferred")
    remaining = ram.integer("remaining")
    if last is not None and now_s > last[0]:
        rate = (transferred - last[1]) / (now_s - last[0])
    else:
        rate = ram.number("mbps") * 1e6 / 8
    return model.Progress(
        transferred_bytes=transferred,
        remaining_bytes=remaining,
        total_bytes=ram.integer("total"),
        rate_bytes_per_s=rate,
        time_left_s=remaining / rate if rate > 0 else None,
    )
