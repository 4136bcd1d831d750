"""Runs an operation on a VM under its lock and journal, and resumes an interrupted one."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from pathlib import Path

from guestagent import __version__
from guestagent.errors import BusyError, ConfigurationError, ConflictError
from guestagent.findings import Finding
from guestagent.host.hypervisor import connect
from guestagent.host.hypervisor.base import Ends, Guest, MigrationDestination
from guestagent.host.migration.guest_location import GuestLocation, location_of
from guestagent.host.migration.recovery import ordered, resumed
from guestagent.host.migration.state import Goal, Limits, Order, Phase, State
from guestagent.host.model import End, Vm
from guestagent.host.preflight.findings import PreflightFacts, combined
from guestagent.host.preflight.gather import gather_facts
from guestagent.host.preflight.rules import check_facts
from guestagent.host.remote import client
from guestagent.host.run.driver import Driver, OperationResult, ProgressListener
from guestagent.host.run.vf_steps import VfProvisioner
from guestagent.host.sriov.base import VfPool
from guestagent.host.sriov.pool import host_pool
from guestagent.host.store.journal import (
    Began,
    Journal,
    Operation,
    lock_of_idle_vm,
    newest,
    unfinished,
)
from guestagent.host.store.lock import vm_lock


def operate(
    vm: Vm,
    goal: Goal,
    home: End,
    state_dir: Path,
    *,
    observer: ProgressListener,
    orchestrated: bool = False,
) -> OperationResult:
    """Reach ``goal``; an orchestrated migration only up to the point where the guest can move.

    Raises BusyError when another process works on this VM, ConflictError when an
    earlier operation has not finished.
    """
    command = "prepare" if orchestrated else str(goal)
    with lock_of_idle_vm(state_dir, vm.name):
        state = _first(vm, goal, home, orchestrated=orchestrated)
        if goal is Goal.MIGRATE:
            facts = asyncio.run(_look(vm, state, state_dir, ask_guest=False))
            problem = combined(check_facts(vm, state, facts))
            if problem is not None:
                state = _not_begun(state, problem, facts)
                return OperationResult(state=state, spans=(), moments=(), figures=None)
        with closing(Journal.begin(state_dir / vm.name, _began(vm, command))) as journal:
            state = replace(state, operation=journal.path.stem)
            return asyncio.run(_drive(vm, state, journal, state_dir, observer))


def check(vm: Vm, state_dir: Path) -> tuple[Finding, ...]:
    """Examine everything that can prevent a migration; changes nothing."""
    # Without a destination all the rest can still be examined.
    goal = Goal.MIGRATE if vm.destination is not None else Goal.DETACH
    state = _first(vm, goal, End.SOURCE)
    other = None
    try:
        with lock_of_idle_vm(state_dir, vm.name):
            pass
    except (BusyError, ConflictError) as error:
        other = Finding(message=str(error), hint=error.hint)
    facts = asyncio.run(_look(vm, state, state_dir, ask_guest=True, other=other))
    return check_facts(vm, state, facts)


def _not_begun(state: State, problem: Finding, facts: PreflightFacts) -> State:
    """Return the end of an operation that was not begun: the guest is where it runs now."""
    home, away = facts.source.view, facts.destination
    here = (
        home.running
        and location_of(home, None if away is None else away.view) is GuestLocation.SOURCE
    )
    return replace(
        state,
        phase=Phase.FAILED,
        problem=problem,
        guest_at=state.home if here else None,
        attached=tuple(vf for vf in state.home_vfs if here and vf in home.devices),
    )


def _first(vm: Vm, goal: Goal, home: End, *, orchestrated: bool = False) -> State:
    target = End.DESTINATION if goal is Goal.MIGRATE else home
    return State(
        phase=Phase.PREPARE,
        goal=goal,
        home=home,
        home_vfs=tuple(vf.id for vf in vm.vfs_on(home)),
        target_vfs=tuple(vf.id for vf in vm.vfs_on(target)),
        limits=Limits(
            unplug_requests=vm.timeouts.unplug_requests,
            attach_tries=vm.timeouts.attach_tries,
            guest_must_agree=vm.guest_must_agree,
        ),
        reachable=frozenset(s for s in {home, target} if connect.guest(vm, s) is not None),
        orchestrated=orchestrated,
        home_managed=vm.managed_on(home),
        target_managed=vm.managed_on(target),
    )


def order(
    vm: Vm, wanted: Order, state_dir: Path, *, observer: ProgressListener
) -> OperationResult:
    """Complete or undo the prepared migration.

    Raises as ``recover`` does, and ConflictError when none is prepared.
    """
    with _unfinished(vm, state_dir) as found:
        if found is None:
            raise ConflictError(
                f"{vm.name}: no migration is prepared",
                hint="guestagent-host prepare comes first, with the same --state-dir",
            )
        operation, state = found
        if state.phase is not Phase.PREPARED:
            raise unfinished(operation)
        return _resume(vm, operation, wanted, ordered(state, wanted), state_dir, observer)


def recover(vm: Vm, state_dir: Path, *, observer: ProgressListener) -> OperationResult | None:
    """Finish or undo the unfinished operation; None when there is none.

    Raises as ``operate`` does, and ConfigurationError when the description lacks a VF or an
    end of the operation.
    """
    with _unfinished(vm, state_dir) as found:
        if found is None:
            return None
        operation, state = found
        return _resume(vm, operation, "recover", resumed(state), state_dir, observer)


def forget(vm: Vm, state_dir: Path) -> bool:
    """End the unfinished operation without querying anything; False when there is none."""
    with _unfinished(vm, state_dir) as found:
        if found is None:
            return False
        operation, state = found
        with closing(Journal.resume(operation, _began(vm, "recover --forget"))) as journal:
            journal.entered(replace(state, phase=Phase.FAILED))
        return True


@contextmanager
def _unfinished(vm: Vm, state_dir: Path) -> Iterator[tuple[Operation, State] | None]:
    """Hold the lock of a VM; the value is its unfinished operation with its state, if any."""
    with vm_lock(state_dir, vm.name):
        operation = newest(state_dir / vm.name)
        state = None if operation is None or operation.finished else operation.state
        yield None if operation is None or state is None else (operation, state)


def _resume(
    vm: Vm,
    operation: Operation,
    command: str,
    state: State,
    state_dir: Path,
    observer: ProgressListener,
) -> OperationResult:
    # The host takes precedence over the description, as --dest did: on another host nothing
    # listens for this guest, which would count as the end of its QEMU.
    vm = vm.with_destination_host(operation.host)
    _must_describe(vm, state)
    with closing(Journal.resume(operation, _began(vm, command))) as journal:
        return asyncio.run(_drive(vm, state, journal, state_dir, observer))


def _began(vm: Vm, command: str) -> Began:
    host = None if vm.destination is None else vm.destination.host
    return Began(command=command, program=__version__, host=host)


def _must_describe(vm: Vm, state: State) -> None:
    for end, vfs in ((state.home, state.home_vfs), (state.target, state.target_vfs)):
        connect.endpoint(vm, end)
        unknown = sorted(set(vfs) - {vf.id for vf in vm.vfs_on(end)})
        if unknown:
            raise ConfigurationError(
                f"{vm.name}: the unfinished operation concerns {unknown[0]} at {end}, which the"
                " description does not contain",
                hint="recover with the description that the operation was started with",
            )


async def _look(
    vm: Vm, state: State, state_dir: Path, *, ask_guest: bool, other: Finding | None = None
) -> PreflightFacts:
    async with _connections(vm, state, state_dir) as (ends, guests, pools):
        guest = guests.get(state.home) if ask_guest else None
        return await gather_facts(ends.connected, guest, pools, other_operation=other)


async def _drive(
    vm: Vm, state: State, journal: Journal, state_dir: Path, observer: ProgressListener
) -> OperationResult:
    async with _connections(vm, state, state_dir) as (ends, guests, pools):
        driver = Driver(
            vm,
            ends,
            guests,
            observer=observer,
            recorder=journal,
            provisioner=VfProvisioner(vm, pools),
            clock=time.monotonic,
        )
        loop = asyncio.get_running_loop()
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
            numbers.append(signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, driver.cancel)
        try:
            return await driver.run(state)
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


@asynccontextmanager
async def _connections(
    vm: Vm, state: State, state_dir: Path
) -> AsyncIterator[tuple[Ends, Mapping[End, Guest], Mapping[End, VfPool]]]:
    """Connect to both ends, their guests and their VF pools; no pools where no VF is managed."""
    concerned = {state.home, state.target}
    far = client.remote_of(vm) if End.DESTINATION in concerned else None
    here = concerned if far is None else concerned - {End.DESTINATION}
    source = connect.hypervisor(vm, End.SOURCE) if End.SOURCE in here else None
    destination: MigrationDestination | None = None
    if far is not None:
        destination = client.remote_destination(far)
    elif End.DESTINATION in here:
        destination = connect.hypervisor(vm, End.DESTINATION)
    ends = Ends(source=source, destination=destination)
    guests: dict[End, Guest] = {
        end: guest for end in here if (guest := connect.guest(vm, end)) is not None
    }
    pool = host_pool(state_dir) if state.home_managed or state.target_managed else None
    pools: dict[End, VfPool] = {} if pool is None else dict.fromkeys(End, pool)
    if far is not None:
        if End.DESTINATION in state.reachable:
            guests[End.DESTINATION] = client.remote_guest(far)
        if pool is not None:
            pools[End.DESTINATION] = client.remote_pool(far)
    try:
        yield ends, guests, pools
    finally:
        for hypervisor in ends.connected.values():
            await hypervisor.close()
        if pool is not None:
            await pool.close()
