"""Two fake QEMUs and a VM description that fits them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from guestagent.host.hypervisor.base import Ends, Guest, MigrationDestination
from guestagent.host.hypervisor.qmp.qemu import Qemu
from guestagent.host.migration.events import Event
from guestagent.host.migration.state import Goal, Limits, Phase, State
from guestagent.host.migration.transitions import step
from guestagent.host.model import (
    Destination,
    Device,
    End,
    Endpoint,
    MigrationFigures,
    MigrationSettings,
    Moment,
    PairConfig,
    Progress,
    Timeouts,
    Vm,
)
from guestagent.host.run.driver import Driver, OperationResult
from guestagent.host.run.vf_steps import VfProvisioner
from guestagent.host.sriov.core.model import Provision, Standby, VfSettings, Want
from tests.fakes.guest import FakeGuest
from tests.fakes.qmp import FakeQemu
from tests.fakes.sriov import CLEAN, FakeVfHost, FakeVfPool

MAC = "52:54:00:aa:00:01"
VF = Device(
    driver="e1000e",
    id="vf0",
    bus="rp2",
    properties=(("netdev", "vf"), ("mac", MAC)),
)
# Deadlines are far away, so that a busy machine changes nothing; a test in which one
# passes sets it. Pauses are none.
EAGER = Limits(unplug_pause_s=0.0, attach_pause_s=0.0, poll_pause_s=0.01)
FAR_S = 20.0


def vm(directory: Path, *, pairs: int = 1, destination_vf: bool = True) -> Vm:
    """Describe a VM whose sockets are in ``directory``."""
    vfs = [
        Device(driver=VF.driver, id=f"vf{i}", bus=f"rp{i + 2}", properties=VF.properties)
        for i in range(pairs)
    ]
    return Vm(
        name="web1",
        source=Endpoint(qmp=directory / "a.sock"),
        destination=Destination(
            endpoint=Endpoint(qmp=directory / "b.sock"),
            uri="unix:/run/migration.sock",
            listen="unix:/run/migration.sock",
        ),
        pairs=tuple(
            PairConfig(
                mac=f"52:54:00:aa:00:0{i + 1}",
                standby=f"net{i}",
                vf=vf,
                destination_vf=vf if destination_vf else None,
            )
            for i, vf in enumerate(vfs)
        ),
        migration=MigrationSettings(timeout_s=FAR_S),
        timeouts=Timeouts(command_s=FAR_S, unplug_s=FAR_S, attach_s=FAR_S),
    )


@dataclass(slots=True)
class Watcher:
    """An observer that remembers, and may act when a phase is entered."""

    phases: list[Phase] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    cancel_in: Phase | None = None
    driver: Driver | None = None

    def entered(self, state: State) -> None:
        """Remember the phase."""
        self.phases.append(state.phase)
        if state.phase is self.cancel_in and self.driver is not None:
            self.cancel_in = None
            self.driver.cancel()

    def progressed(self, progress: Progress) -> None:
        """Remember how far it was."""
        self.progress.append(progress)


class KilledError(Exception):
    """The process ends here."""


@dataclass(slots=True)
class Notebook:
    """A recorder in memory, which may end the process at its n-th word (from 0)."""

    words: list[State | Event] = field(default_factory=list)
    end_before: int | None = None
    end_after: int | None = None

    def entered(self, state: State) -> None:
        """Keep a state."""
        self._keep(state)

    def effect_ended(self, event: Event) -> None:
        """Keep an event."""
        self._keep(event)

    def observed(self, moments: Sequence[Moment], figures: MigrationFigures | None) -> None:
        """Keep nothing: no test asks for it here."""

    def _keep(self, word: State | Event) -> None:
        if len(self.words) == self.end_before:
            raise KilledError
        self.words.append(word)
        if len(self.words) - 1 == self.end_after:
            raise KilledError

    @property
    def state(self) -> State | None:
        """Where it stands, as ``Operation.state`` has it."""
        if not self.words:
            return None
        last = self.words[-1]
        if isinstance(last, State):
            return last
        before = self.words[-2]
        assert isinstance(before, State)
        return step(before, last)


@dataclass(slots=True, kw_only=True)
class World:
    """A source with a guest and its VFs, and a destination that waits."""

    vm: Vm
    source: FakeQemu
    destination: FakeQemu
    watcher: Watcher = field(default_factory=Watcher)
    recorder: Notebook = field(default_factory=Notebook)
    remote: MigrationDestination | None = None
    vf_hosts: dict[End, FakeVfHost] = field(default_factory=dict)
    limits: Limits = EAGER
    guests: dict[End, Guest] = field(
        default_factory=lambda: {End.SOURCE: FakeGuest(), End.DESTINATION: FakeGuest()}
    )

    def shorten(
        self, *, command_s: float = FAR_S, unplug_s: float = FAR_S, attach_s: float = FAR_S
    ) -> None:
        """Bring a deadline near."""
        near = Timeouts(command_s=command_s, unplug_s=unplug_s, attach_s=attach_s)
        self.vm = replace(self.vm, timeouts=near)

    def first_state(self, goal: Goal = Goal.MIGRATE, *, orchestrated: bool = False) -> State:
        """Return the state in which a command begins."""
        target = End.DESTINATION if goal is Goal.MIGRATE else End.SOURCE
        return State(
            phase=Phase.PREPARE,
            goal=goal,
            home=End.SOURCE,
            home_vfs=tuple(vf.id for vf in self.vm.vfs_on(End.SOURCE)),
            target_vfs=tuple(vf.id for vf in self.vm.vfs_on(target)),
            limits=self.limits,
            reachable=frozenset(self.guests),
            orchestrated=orchestrated,
            operation="1",
            home_managed=self.vm.managed_on(End.SOURCE),
            target_managed=self.vm.managed_on(target),
        )

    def provide_vfs(self, *, standby: bool = True) -> None:
        """Have the VFs claimed and programmed here, on two hosts with two VFs each."""
        self.vf_hosts = {end: FakeVfHost() for end in End}
        pairs: list[PairConfig] = []
        for pair in self.vm.pairs:
            settings = VfSettings(
                mac=pair.mac,
                vlan=7,
                standby=Standby(link=f"tap-{pair.vf.id}", mac=pair.mac) if standby else None,
            )
            choice = Provision(want=Want(pfs=("physnet1",)), settings=settings)
            number = len(pairs)
            used = Provision(want=Want(vf=f"0000:01:10.{2 * number}"), settings=settings)
            has_other = pair.destination_vf is not None
            pairs.append(
                replace(pair, sriov=used, destination_sriov=choice if has_other else None)
            )
            state = replace(CLEAN, mac=pair.mac, vlan=7)
            self.vf_hosts[End.SOURCE].states[f"0000:01:10.{2 * number}"] = state
        self.vm = replace(self.vm, pairs=tuple(pairs))

    async def drive(
        self, goal: Goal = Goal.MIGRATE, state: State | None = None
    ) -> OperationResult:
        """Run a command against the two fakes, or go on from a state."""
        command_s = self.vm.timeouts.command_s
        destination: MigrationDestination | None = self.remote
        if destination is None and goal is Goal.MIGRATE:
            destination = Qemu(self.destination.path, End.DESTINATION, timeout_s=command_s)
        ends = Ends(
            source=Qemu(self.source.path, End.SOURCE, timeout_s=command_s),
            destination=destination,
        )
        driver = Driver(
            self.vm,
            ends,
            self.guests,
            observer=self.watcher,
            recorder=self.recorder,
            provisioner=VfProvisioner(
                self.vm, {end: FakeVfPool(host) for end, host in self.vf_hosts.items()}
            ),
            clock=time.monotonic,
        )
        self.watcher.driver = driver
        try:
            return await driver.run(state or self.first_state(goal))
        finally:
            for hypervisor in ends.connected.values():
                await hypervisor.close()


@contextlib.asynccontextmanager
async def world(
    directory: Path, *, pairs: int = 1, destination_vf: bool = True
) -> AsyncIterator[World]:
    """Start both fakes; the guest runs at the source and has all its VFs."""
    description = vm(directory, pairs=pairs, destination_vf=destination_vf)
    source = FakeQemu(path=directory / "a.sock")
    for device in description.vfs_on(End.SOURCE):
        source.devices[device.id] = {
            "driver": device.driver,
            "bus": device.bus,
            **dict(device.properties),
        }
    destination = FakeQemu(path=directory / "b.sock", run_state="inmigrate")
    source.peer = destination
    async with source.serving(), destination.serving():
        yield World(vm=description, source=source, destination=destination)


Scenario = Callable[[World], Awaitable[None]]


def play(
    directory: Path, scenario: Scenario, *, pairs: int = 1, destination_vf: bool = True
) -> None:
    """Run a scenario on a fresh stage."""

    async def play_it() -> None:
        async with world(directory, pairs=pairs, destination_vf=destination_vf) as stage:
            await scenario(stage)

    asyncio.run(play_it())


def message_of(outcome: OperationResult) -> str:
    """Return the error message that the operator reads."""
    assert outcome.state.problem is not None
    return f"{outcome.state.problem.message} | {outcome.state.problem.hint}"


def assert_back_at_source(stage: World, outcome: OperationResult) -> None:
    """One guest, at the source, accelerated as before."""
    assert outcome.state.phase is Phase.FAILED
    assert outcome.state.guest_at is End.SOURCE
    assert stage.source.run_state == "running"
    assert stage.destination.run_state != "running"
    assert set(stage.source.devices) == {vf.id for vf in stage.vm.vfs_on(End.SOURCE)}
    assert outcome.state.attached == tuple(stage.source.devices)
