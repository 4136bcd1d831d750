"""The phases apart: prepare, another's migration, complete or rollback; against two fakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from guestagent.host.hypervisor.qmp.qemu import Qemu
from guestagent.host.migration.recovery import ordered, resumed
from guestagent.host.migration.state import Order, Phase
from guestagent.host.model import End
from guestagent.host.run.driver import OperationResult
from tests.fakes.guest import FakeGuest
from tests.fakes.qmp import Ending
from tests.unit.host.run.test_recover import assert_vfs_are_given_back, assert_whole
from tests.unit.host.support import FAR_S, KilledError, Notebook, World, message_of, play


async def prepare(stage: World) -> OperationResult:
    """Do what ``guestagent-host prepare`` does."""
    outcome = await stage.drive(state=stage.first_state(orchestrated=True))
    assert outcome.state.phase is Phase.PREPARED
    assert outcome.state.problem is None
    assert stage.source.devices == {}
    return outcome


async def order(stage: World, outcome: OperationResult, wanted: Order) -> OperationResult:
    """Do what ``guestagent-host complete`` and ``rollback`` do."""
    return await stage.drive(state=ordered(outcome.state, wanted))


async def migrate(stage: World, *, follow: bool = True) -> None:
    """Migrate as an orchestrator does."""
    source = Qemu(stage.source.path, End.SOURCE, timeout_s=FAR_S)
    destination = Qemu(stage.destination.path, End.DESTINATION, timeout_s=FAR_S)
    await destination.expect_migration("unix:/x", stage.vm.migration)
    await source.start_migration("unix:/x", stage.vm.migration)
    await source.close()
    await destination.close()
    if follow:
        await followed(stage)


async def followed(stage: World) -> None:
    """Wait until the migration has ended."""
    source = Qemu(stage.source.path, End.SOURCE, timeout_s=FAR_S)
    async for _ in source.follow_migration(stage.vm.migration):
        pass
    await source.close()


@pytest.mark.parametrize("provided", [False, True])
def test_a_guest_that_somebody_else_moves_gets_its_vf(tmp_path: Path, *, provided: bool) -> None:
    async def scenario(stage: World) -> None:
        if provided:
            stage.provide_vfs()
        prepared = await prepare(stage)
        await migrate(stage)
        outcome = await order(stage, prepared, Order.COMPLETE)
        assert outcome.state.phase is Phase.DONE
        assert outcome.state.guest_at is End.DESTINATION
        assert outcome.state.attached == ("vf0",)
        assert stage.source.commands.count("migrate") == 1
        assert_vfs_are_given_back(stage)

    play(tmp_path, scenario)


@pytest.mark.parametrize("provided", [False, True])
def test_a_guest_that_stayed_gets_its_vf_back(tmp_path: Path, *, provided: bool) -> None:
    async def scenario(stage: World) -> None:
        if provided:
            stage.provide_vfs()
        outcome = await order(stage, await prepare(stage), Order.ROLLBACK)
        assert outcome.state.phase is Phase.UNDONE
        assert_whole(stage)
        assert_vfs_are_given_back(stage)

    play(tmp_path, scenario)


def test_a_failed_migration_of_somebody_else_is_rolled_back(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.source.ending = Ending.FAILS
        prepared = await prepare(stage)
        await migrate(stage)
        outcome = await order(stage, prepared, Order.ROLLBACK)
        assert outcome.state.phase is Phase.UNDONE
        assert_whole(stage)

    play(tmp_path, scenario)


def test_a_destination_need_not_be_there_when_it_is_prepared(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.destination.end()
        outcome = await order(stage, await prepare(stage), Order.ROLLBACK)
        assert outcome.state.phase is Phase.UNDONE
        assert list(stage.source.devices) == ["vf0"]

    play(tmp_path, scenario)


def test_a_source_that_was_ended_after_the_migration_is_no_hindrance(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        prepared = await prepare(stage)
        await migrate(stage)
        stage.source.end()
        outcome = await order(stage, prepared, Order.COMPLETE)
        assert outcome.state.phase is Phase.DONE

    play(tmp_path, scenario)


def test_complete_and_rollback_are_refused_until_the_guest_is_where_they_need_it(
    tmp_path: Path,
) -> None:
    async def scenario(stage: World) -> None:
        prepared = await prepare(stage)
        early = await order(stage, prepared, Order.COMPLETE)
        assert early.state.phase is Phase.PREPARED
        assert "rollback" in message_of(early)
        stage.source.ending = Ending.NEVER
        await migrate(stage, follow=False)
        for wanted in Order:
            moving = await order(stage, early, wanted)
            assert moving.state.phase is Phase.PREPARED
            assert "when its migration has ended" in message_of(moving)
        stage.source.ending = Ending.STAYS_STOPPED
        await followed(stage)
        stopped = await order(stage, moving, Order.COMPLETE)
        assert stopped.state.phase is Phase.PREPARED
        assert "let the guest run there" in message_of(stopped)
        assert "cont" not in stage.destination.commands, "its orchestrator starts it"
        stage.destination.run_state = "running"
        late = await order(stage, stopped, Order.ROLLBACK)
        assert late.state.phase is Phase.PREPARED
        assert "the guest has arrived" in message_of(late)
        assert stage.destination.devices == {}
        done = await order(stage, late, Order.COMPLETE)
        assert done.state.phase is Phase.DONE
        assert done.state.problem is None
        assert list(stage.destination.devices) == ["vf0"]

    play(tmp_path, scenario)


@pytest.mark.parametrize("wanted", list(Order))
def test_a_helper_killed_in_its_part_is_recovered(tmp_path: Path, wanted: Order) -> None:
    points = 0
    for number in range(20):
        directory = tmp_path / str(number)
        directory.mkdir()
        killed = False

        async def scenario(stage: World, number: int = number) -> None:
            nonlocal killed
            stage.guests = dict.fromkeys(End, FakeGuest())  # it keeps its mind when it moves
            stage.provide_vfs()
            prepared = await prepare(stage)
            if wanted is Order.COMPLETE:
                await migrate(stage)
            stage.recorder = Notebook(end_before=number)
            try:
                await order(stage, prepared, wanted)
            except KilledError:
                killed = True
            stood = stage.recorder.state or prepared.state
            stage.recorder = Notebook()
            outcome = await stage.drive(state=resumed(stood))
            assert outcome.state.phase in {Phase.DONE, Phase.UNDONE}
            assert_whole(stage)
            assert_vfs_are_given_back(stage)

        play(directory, scenario)
        if not killed:
            break
        points += 1
    assert 8 < points < 20


def test_recovery_of_what_is_prepared_follows_the_guest(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        prepared = await prepare(stage)
        outcome = await stage.drive(state=resumed(prepared.state))
        assert outcome.state.phase is Phase.UNDONE
        assert_whole(stage)

    play(tmp_path, scenario)
