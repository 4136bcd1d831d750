"""Performs the effects of the state machine one after the other, and records their times."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from guestagent.clock import Clock, Deadline
from guestagent.errors import GuestAgentError, InternalError, PeerError, UnknownOutcomeError
from guestagent.host.hypervisor.base import Ends, Guest
from guestagent.host.migration import effects, events
from guestagent.host.migration.state import Goal, Limits, Phase, State
from guestagent.host.migration.transitions import step
from guestagent.host.model import Device, End, MigrationFigures, Moment, Progress, Vm
from guestagent.host.run.events import event_of
from guestagent.host.run.vf_steps import VfProvisioner

HOLD_MARGIN_S = 30.0
MAX_HOLD_S = 3600.0
"""The longest hold that an agent accepts."""

log = logging.getLogger(__name__)


class Recorder(Protocol):
    """Durable record of each step before it starts and of its result afterwards.

    All methods raise GuestAgentError if the record cannot be written; nothing more is begun then.
    """

    def entered(self, state: State) -> None:
        """Record that the effect of ``state`` begins; durable on return."""

    def effect_ended(self, event: events.Event) -> None:
        """Record the result of the effect."""

    def observed(self, moments: Sequence[Moment], figures: MigrationFigures | None) -> None:
        """Record QEMU's events and figures of the whole operation."""


class ProgressListener(Protocol):
    """Receives progress notifications."""

    def entered(self, state: State) -> None:
        """The effect of ``state`` begins."""

    def progressed(self, progress: Progress) -> None:
        """The migration has progressed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The time of a phase, in seconds of the monotonic clock; ``vf`` is its device, if any."""

    phase: Phase
    vf: str | None
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationResult:
    """The final state of a command, and the times of its phases and events."""

    state: State
    spans: tuple[Span, ...]
    moments: tuple[Moment, ...]
    figures: MigrationFigures | None


class Driver:
    """Runs one command on one VM. ``cancel`` may be called at any time, also repeatedly."""

    def __init__(
        self,
        vm: Vm,
        ends: Ends,
        guests: Mapping[End, Guest],
        *,
        observer: ProgressListener,
        recorder: Recorder,
        provisioner: VfProvisioner,
        clock: Clock,
    ) -> None:
        self._vm = vm
        self._ends = ends
        self._guests = guests
        self._observer = observer
        self._recorder = recorder
        self._provisioner = provisioner
        self._clock = clock
        self._cancel = asyncio.Event()
        self._migration_end = Deadline.after(vm.migration.timeout_s, clock)
        self._spans: list[Span] = []

    def cancel(self) -> None:
        """Request the end; it takes effect at the next point where ending is safe."""
        self._cancel.set()

    async def run(self, state: State) -> OperationResult:
        """Continue from a state whose effect has not begun; failures are part of the result."""
        while (effect := effects.effect_of(state)) is not None:
            self._recorder.entered(state)
            self._observer.entered(state)
            start_s = self._clock()
            event = None if self._cancel.is_set() else await self._perform(effect, state)
            if event is None:
                self._cancel.clear()
                event = events.Cancel()
            self._recorder.effect_ended(event)
            self._record(state.phase, effect, start_s)
            logged = len(state.warnings)
            state = step(state, event)
            for warning in state.warnings[logged:]:
                log.warning("%s: %s", self._vm.name, warning, extra={"MIGRATION": self._vm.name})
        seen = [moment for end in self._ends.connected.values() for moment in end.moments]
        moments = tuple(sorted(seen, key=lambda moment: moment.at_s))
        figures = await self._figures(state)
        self._recorder.observed(moments, figures)
        self._recorder.entered(state)
        self._observer.entered(state)
        return OperationResult(
            state=state, spans=tuple(self._spans), moments=moments, figures=figures
        )

    async def _perform(  # noqa: C901 - one case for each effect
        self, effect: effects.Effect, state: State
    ) -> events.Event | None:
        """Perform an effect and return its result; None if it was cancelled first."""
        match effect:
            case effects.PollState(after_s=after_s):
                await self._await_change(state.target, after_s)
                return None if self._cancel.is_set() else await self._look(state)
            case effects.FollowMigration(grace_s=grace_s):
                return await self._follow(grace_s)
            case effects.OneVfEffect() if await self._paused(effect.after_s):
                return None
            case effects.Unplug(end=end, vf=vf):
                timeout_s = self._vm.timeouts.unplug_s
                return await event_of(self._ends.at(end).unplug(vf, timeout_s))
            case effects.FailoverToStandby(end=end, vfs=vfs):
                return await event_of(self._to_standby(end, vfs, state))
            case effects.FailbackToVf(end=end, vfs=vfs):
                timeout_s = self._vm.timeouts.guest_s
                return await event_of(
                    self._guests[end].to_vf(self._macs(end, vfs), timeout_s=timeout_s)
                )
            case effects.Plug(end=end, vf=vf):
                return await event_of(self._plug(end, vf, state))
            case effects.StartMigration():
                self._migration_end = Deadline.after(self._vm.migration.timeout_s, self._clock)
                return await event_of(self._start_migration())
            case effects.CancelMigration():
                return await event_of(self._ends.migration()[0].cancel_migration())
            case effects.ResumeGuest(end=end):
                return await event_of(self._ends.at(end).resume())
            case _:
                return await self._provisioner.perform(effect, state)

    async def _to_standby(self, end: End, vfs: tuple[str, ...], state: State) -> None:
        """Forward traffic to the standbys, and then have the guest use them.

        The macvtap of a standby is down while the VF is in use, and would drop the guest's
        packets.
        """
        await self._provisioner.open_standbys(end)
        macs = self._macs(end, vfs)
        await self._guests[end].to_standby(macs, hold_s=self._hold_s(state.limits))

    async def _plug(self, end: End, vf: str, state: State) -> None:
        device = self._device(end, vf)
        if vf in state.programmed:
            device = device.on_vf(await self._provisioner.address(end, vf, state.operation))
        await self._ends.at(end).plug(device, self._vm.timeouts.attach_s)

    async def _look(self, state: State) -> events.BothViews:
        if state.goal is not Goal.MIGRATE:
            return events.BothViews(home=await self._ends.at(state.home).look(), away=None)
        home, away = await asyncio.gather(
            self._ends.at(state.home).look(), self._ends.at(state.target).look()
        )
        return events.BothViews(home=home, away=away)

    async def _start_migration(self) -> None:
        destination = self._vm.destination
        if destination is None:
            raise InternalError("a migration without a destination")
        settings = self._vm.migration
        sender, receiver = self._ends.migration()
        await receiver.expect_migration(destination.listen, settings)
        await sender.start_migration(destination.uri, settings)

    async def _follow(self, grace_s: float | None) -> events.Event | None:
        end = self._migration_end
        if grace_s is not None:
            end = Deadline.after(grace_s, self._clock)
        watching = asyncio.create_task(event_of(self._watch()))
        cancelled = asyncio.create_task(self._cancel.wait())
        try:
            await asyncio.wait(
                {watching, cancelled}, timeout=end.remaining_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in (watching, cancelled):
                task.cancel()
            await asyncio.wait({watching, cancelled})
        if not watching.cancelled():
            event = watching.result()
            # The refused command was a query or an adjustment: the migration may continue.
            if isinstance(event, events.Rejected):
                return events.OutcomeUnknown(detail=event.detail)
            return event
        if not cancelled.cancelled():
            return None
        limit_s = self._vm.migration.timeout_s if grace_s is None else grace_s
        return events.TimedOut(detail=f"the migration has not ended within {limit_s:g} s")

    async def _watch(self) -> None:
        source, _ = self._ends.migration()
        async for progress in source.follow_migration(self._vm.migration):
            self._observer.progressed(progress)

    async def _await_change(self, end: End, timeout_s: float) -> None:
        """Wait for an event at ``end``, or for the time."""
        if timeout_s == 0.0:
            return
        deadline = Deadline.after(timeout_s, self._clock)
        try:
            await self._ends.at(end).wait_for_change(timeout_s)
        except GuestAgentError:  # any error of the far host
            await self._paused(deadline.remaining_s)

    async def _paused(self, pause_s: float) -> bool:
        """Wait; return whether the operation was cancelled meanwhile."""
        if pause_s > 0.0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._cancel.wait(), pause_s)
        return self._cancel.is_set()

    def _hold_s(self, limits: Limits) -> float:
        """Return the seconds that the guest must stay off its VFs: until the last one has gone."""
        timeouts = self._vm.timeouts
        each_s = timeouts.unplug_requests * (timeouts.unplug_s + limits.unplug_pause_s)
        return min(each_s * len(self._vm.pairs) + HOLD_MARGIN_S, MAX_HOLD_S)

    def _macs(self, end: End, vfs: tuple[str, ...]) -> tuple[str, ...]:
        pairs = ((pair, pair.vf_on(end)) for pair in self._vm.pairs)
        return tuple(pair.mac for pair, vf in pairs if vf is not None and vf.id in vfs)

    def _device(self, end: End, vf: str) -> Device:
        return next(device for device in self._vm.vfs_on(end) if device.id == vf)

    def _record(self, phase: Phase, effect: effects.Effect, start_s: float) -> None:
        vf = effect.vf if isinstance(effect, effects.OneVfEffect) else None
        last = self._spans[-1] if self._spans else None
        if last is not None and (last.phase, last.vf) == (phase, vf):
            start_s = self._spans.pop().start_s
        self._spans.append(Span(phase=phase, vf=vf, start_s=start_s, end_s=self._clock()))

    async def _figures(self, state: State) -> MigrationFigures | None:
        if state.goal is not Goal.MIGRATE or state.guest_at is not End.DESTINATION:
            return None
        with contextlib.suppress(PeerError, UnknownOutcomeError):
            return await self._ends.migration()[0].figures()
        return None
