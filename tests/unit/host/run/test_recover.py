"""A helper that is killed at any point, and what ``recover`` makes of it; against two fakes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from guestagent.host.migration.events import BothViews, OutcomeUnknown
from guestagent.host.migration.recovery import resumed
from guestagent.host.migration.state import Goal, Phase
from guestagent.host.migration.transitions import step
from guestagent.host.model import End, QemuState
from guestagent.host.run.driver import OperationResult
from guestagent.host.sriov.core.model import Process
from tests.fakes.guest import FakeGuest
from tests.fakes.qmp import Ending, FakeQemu, Fault, Guest
from tests.fakes.sriov import CLEAN
from tests.unit.host.migration.test_transitions import state
from tests.unit.host.support import EAGER, MAC, KilledError, Notebook, World, message_of, play


async def recover(stage: World) -> OperationResult | None:
    """Do what ``guestagent-host recover`` does; None when nothing is left to do."""
    stood = stage.recorder.state
    stage.recorder = Notebook(words=stage.recorder.words)
    if stood is None:
        return None
    return await stage.drive(state=resumed(stood))


def assert_whole(stage: World) -> None:
    """One guest runs, it has its VF, and nobody else has it."""
    running = [q for q in (stage.source, stage.destination) if q.run_state == "running"]
    assert len(running) == 1
    nowhere_to_go = running[0] is stage.destination and _nothing_free(stage)
    assert set(running[0].devices) == (set() if nowhere_to_go else {"vf0"})
    idle = stage.destination if running[0] is stage.source else stage.source
    assert idle.devices == {}
    for guest in () if nowhere_to_go else stage.guests.values():
        assert isinstance(guest, FakeGuest)
        assert guest.on_standby == set(), "the guest was told to come back to its VF"


def _nothing_free(stage: World) -> bool:
    return bool(stage.vf_hosts) and len(stage.vf_hosts[End.DESTINATION].users) == 2


def assert_vfs_are_given_back(stage: World) -> None:
    """The VF that the guest uses is its own, with its MAC; nobody has the MAC or a VF else."""
    source_runs = stage.source.run_state == "running"
    here = End.SOURCE if source_runs else End.DESTINATION
    for end, host in stage.vf_hosts.items():
        states = [(vf, state) for vf, state in host.states.items() if state != CLEAN]
        if end is not here or (end is End.DESTINATION and _nothing_free(stage)):
            assert (states, host.leases) == ([], {})
            continue
        ((vf, state),) = states
        assert (state.mac, state.vlan) == (MAC, 7)
        assert set(host.leases) <= {vf}
        assert host.open == set(), "what is on the VF is not delivered to the standby"


def _works(_stage: World) -> None:
    pass


def _fails(stage: World) -> None:
    stage.source.ending = Ending.FAILS


def _fails_stopped(stage: World) -> None:
    stage.source.ending = Ending.FAILS_STOPPED


def _cancelled(stage: World) -> None:
    stage.source.ending = Ending.NEVER
    stage.watcher.cancel_in = Phase.MIGRATE


def _overdue(stage: World) -> None:
    stage.source.ending = Ending.NEVER
    stage.vm = replace(stage.vm, migration=replace(stage.vm.migration, timeout_s=0.1))


def _keeps_the_vf(stage: World) -> None:
    stage.source.guest = Guest.REFUSES


def _attach_fails_once(stage: World) -> None:
    stage.destination.faults = {"device_add": [Fault.REFUSE]}


def _vfs_provided(stage: World) -> None:
    stage.provide_vfs()


def _vfs_provided_and_cancelled(stage: World) -> None:
    stage.provide_vfs()
    _cancelled(stage)


def _no_vf_is_free(stage: World) -> None:
    """Both VFs of the destination are somebody else's."""
    stage.provide_vfs()
    host = stage.vf_hosts[End.DESTINATION]
    for vf in host.states:
        host.users[vf] = Process(pid=1, name="other")


WAYS: tuple[Callable[[World], None], ...] = (
    _works,
    _fails,
    _fails_stopped,
    _cancelled,
    _overdue,
    _keeps_the_vf,
    _attach_fails_once,
    _vfs_provided,
    _vfs_provided_and_cancelled,
    _no_vf_is_free,
)
LONGEST = 60


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__.strip("_"))
def test_a_helper_killed_at_any_point_is_recovered(
    tmp_path: Path, way: Callable[[World], None]
) -> None:
    """Killed before each effect, after it, and after its result is recorded."""
    points = 0
    for number in range(LONGEST):
        # Every other record is a result: without it the helper has died after the effect.
        endings = [Notebook(end_after=number)]
        endings += [Notebook(end_before=number)] if number % 2 else []
        for notebook in endings:
            directory = tmp_path / str(points)
            directory.mkdir()
            if not _kill_and_recover(directory, way, notebook):
                assert points > 15
                print(f"{way.__name__.strip('_')}: recovered from all of {points} points")
                return
            points += 1
    raise AssertionError(f"{way.__name__} does not end within {LONGEST} words")


def _kill_and_recover(directory: Path, way: Callable[[World], None], recorder: Notebook) -> bool:
    killed = False

    async def scenario(stage: World) -> None:
        nonlocal killed
        stage.guests = dict.fromkeys(End, FakeGuest())  # it keeps its mind when it moves
        way(stage)
        stage.recorder = recorder
        try:
            await stage.drive()
        except KilledError:
            killed = True
        # Whatever kept a migration from its end does so no more, but the destination is used up.
        stage.watcher.cancel_in = None
        if stage.source.ending is Ending.NEVER:
            stage.source.ending = Ending.COMPLETES
        outcome = await recover(stage)
        if outcome is not None:
            over = outcome.state.phase in {Phase.DONE, Phase.UNDONE}
            assert over or not killed or outcome.spans == (), "it had ended in failure before"
        assert_whole(stage)
        assert_vfs_are_given_back(stage)
        asked = {qemu.path: _changing(qemu) for qemu in (stage.source, stage.destination)}
        stood = stage.recorder.state
        if stood is not None and stood.phase.final:
            assert resumed(stood) == stood, "a second recover has nothing to do"
        assert asked == {qemu.path: _changing(qemu) for qemu in (stage.source, stage.destination)}

    play(directory, scenario)
    return killed


def _changing(qemu: FakeQemu) -> list[str]:
    return [command for command in qemu.commands if not command.startswith(("query", "qom"))]


@pytest.mark.parametrize("goal", [Goal.ATTACH, Goal.DETACH])
@pytest.mark.parametrize("number", range(8))
def test_attach_and_detach_are_recovered(tmp_path: Path, goal: Goal, number: int) -> None:
    async def scenario(stage: World) -> None:
        if goal is Goal.ATTACH:
            stage.source.devices.clear()
        stage.recorder = Notebook(end_before=number)
        try:
            outcome: OperationResult | None = await stage.drive(goal)
        except KilledError:
            outcome = await recover(stage)
        reached = outcome is not None and outcome.state.phase is Phase.DONE
        begun = number >= 2  # by then the first look had been written down
        has_vf = not reached if goal is Goal.DETACH else begun
        assert ("vf0" in stage.source.devices) is has_vf

    play(tmp_path, scenario)


def test_a_request_that_waits_in_the_guest_does_not_lose_the_vf(tmp_path: Path) -> None:
    """The guest releases the VF after the helper was killed, when it is asked once more."""

    async def scenario(stage: World) -> None:
        stage.source.guest = Guest.RELEASES_LATE
        stage.recorder = Notebook(end_after=4)
        with pytest.raises(KilledError):
            await stage.drive()
        assert stage.recorder.state is not None
        assert stage.recorder.state.phase is Phase.DETACH
        stage.source.asked_devices.append("vf0")  # its request had reached the guest
        outcome = await recover(stage)
        assert outcome is not None
        assert outcome.state.phase is Phase.UNDONE
        assert_whole(stage)

    play(tmp_path, scenario)


def test_a_migration_that_went_on_alone_is_finished(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.recorder = Notebook(end_after=8)
        with pytest.raises(KilledError):
            await stage.drive()
        assert stage.source.migration == "active"
        outcome = await recover(stage)
        assert outcome is not None
        assert outcome.state.phase is Phase.DONE
        assert outcome.state.guest_at is End.DESTINATION
        assert stage.source.commands.count("migrate") == 1

    play(tmp_path, scenario)


def test_where_both_qemus_have_ended_there_is_nothing_to_recover(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.recorder = Notebook(end_after=8)
        with pytest.raises(KilledError):
            await stage.drive()
        stage.source.end()
        stage.destination.end()
        outcome = await recover(stage)
        assert outcome is not None
        assert outcome.state.phase is Phase.FAILED
        assert outcome.state.guest_at is None
        assert "no guest is left" in message_of(outcome)

    play(tmp_path, scenario)


def test_an_unproved_operation_is_recovered_once_the_location_is_provable(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.source.ending = Ending.FAILS_STOPPED
        stage.source.faults = {"cont": [Fault.REFUSE] * 99}
        stage.limits = replace(EAGER, polls=4)
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.UNKNOWN
        assert "guestagent-host recover" in message_of(outcome)
        stage.source.faults.clear()
        recovered = await recover(stage)
        assert recovered is not None
        assert recovered.state.phase is Phase.UNDONE
        assert_whole(stage)

    play(tmp_path, scenario)


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_is_gone_on_with_and_ends(phase: Phase) -> None:
    """Nothing recovered repeats for ever, and a final state is left as it is."""
    blind = BothViews(
        home=QemuState(end=End.SOURCE, unreachable="silent"),
        away=QemuState(end=End.DESTINATION, unreachable="silent"),
    )
    current = resumed(state(phase))
    if phase in {Phase.DONE, Phase.FAILED, Phase.UNDONE}:
        assert current == state(phase)
    for _ in range(50):
        if current.phase.final:
            break
        assert current.phase in {Phase.DECIDE, Phase.DETACH, Phase.TIDY}
        event = blind if current.phase is Phase.DECIDE else OutcomeUnknown(detail="gone")
        current = step(current, event)
    assert current.phase.final
