"""A lost connection and an operator's cancel, at every point; against two fake QEMUs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from guestagent.errors import BusyError, ConflictError, SystemLacksError
from guestagent.host.hypervisor.qmp.qemu import Qemu
from guestagent.host.migration.state import Phase
from guestagent.host.model import End
from guestagent.host.sriov.core.model import Lease
from tests.fakes.guest import FakeGuest
from tests.fakes.qmp import Ending, Fault, Guest
from tests.fakes.sriov import FakeVfPool
from tests.unit.host.support import FAR_S, World, assert_back_at_source, message_of, play

# --- the connection is lost ------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.HANG_UP_BEFORE, Fault.HANG_UP_AFTER, Fault.SILENT])
def test_an_unplug_whose_answer_is_lost_ends_with_the_vf_at_the_source(
    tmp_path: Path, fault: Fault
) -> None:
    async def scenario(stage: World) -> None:
        stage.source.faults = {"device_del": [fault]}
        if fault is Fault.SILENT:
            stage.shorten(command_s=0.5)
        outcome = await stage.drive()
        assert_back_at_source(stage, outcome)
        assert "device_del" in message_of(outcome)

    play(tmp_path, scenario)


@pytest.mark.parametrize("fault", [Fault.HANG_UP_AFTER, Fault.CUT, Fault.GARBAGE])
def test_a_migration_goes_on_while_nobody_listens(tmp_path: Path, fault: Fault) -> None:
    async def scenario(stage: World) -> None:
        # The third is the first while the migration is followed.
        stage.source.on_command = lambda _command: (
            stage.source.faults.update({"query-migrate": [fault]})
            if stage.source.migration == "active" and not stage.source.faults
            else None
        )
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.DONE
        assert outcome.state.guest_at is End.DESTINATION
        assert stage.source.commands.count("migrate") == 1
        assert "connection lost" in outcome.state.warnings[0]

    play(tmp_path, scenario)


def test_a_migration_that_began_though_its_answer_was_lost_is_followed(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.source.faults = {"migrate": [Fault.HANG_UP_AFTER]}
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.DONE
        assert outcome.state.guest_at is End.DESTINATION
        assert stage.source.commands.count("migrate") == 1
        assert "the guest had arrived already" in " ".join(outcome.state.warnings)

    play(tmp_path, scenario)


def test_a_migration_that_never_began_is_not_taken_for_one(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.source.faults = {"migrate": [Fault.HANG_UP_BEFORE]}
        outcome = await stage.drive()
        assert_back_at_source(stage, outcome)

    play(tmp_path, scenario)


def test_a_source_that_ends_with_the_guest_nowhere_is_unknown(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.source.faults = {"migrate": [Fault.HANG_UP_FOR_GOOD]}
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.UNKNOWN
        assert outcome.state.guest_at is None
        assert "source: QEMU has ended" in message_of(outcome)
        assert "destination: guest inmigrate" in message_of(outcome)
        assert "cont" not in stage.destination.commands

    play(tmp_path, scenario)


def test_a_destination_that_ends_after_it_took_the_guest_is_unknown(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        def end_with_the_guest(_command: str) -> None:
            if stage.source.migration == "completed":
                stage.destination.end()

        stage.source.on_command = end_with_the_guest
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.UNKNOWN
        assert stage.source.run_state == "postmigrate"
        assert "cont" not in stage.source.commands

    play(tmp_path, scenario)


def test_a_source_that_ended_after_it_sent_the_guest_is_no_hindrance(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        def end_after_sending(command: str) -> None:
            if command == "query-status" and stage.destination.run_state == "running":
                stage.source.end()

        stage.destination.on_command = end_after_sending
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.DONE
        assert outcome.state.guest_at is End.DESTINATION

    play(tmp_path, scenario)


# --- what has to be done cannot be done just now ---------------------------------------------


CANNOT = [BusyError("leases: locked"), ConflictError("no lease"), SystemLacksError("no right")]


@pytest.mark.parametrize("error", CANNOT, ids=lambda error: type(error).__name__)
def test_leases_that_cannot_be_changed_leave_no_guest_half_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def withdraw(_pool: FakeVfPool, _lease: Lease) -> Lease:
        raise error

    async def scenario(stage: World) -> None:
        stage.provide_vfs()
        outcome = await stage.drive()
        assert_back_at_source(stage, outcome)
        assert str(error) in message_of(outcome)

    monkeypatch.setattr(FakeVfPool, "withdraw", withdraw)
    play(tmp_path, scenario)


@pytest.mark.parametrize("error", CANNOT, ids=lambda error: type(error).__name__)
def test_another_host_that_cannot_be_worked_on_leaves_no_guest_half_way(
    tmp_path: Path, error: Exception
) -> None:
    """So says its end when the connection was lost and its old process holds the lock still."""

    async def scenario(stage: World) -> None:
        stage.guests[End.DESTINATION] = FakeGuest(failure=error)
        outcome = await stage.drive()
        assert (outcome.state.phase, outcome.state.attached) == (Phase.DONE, ("vf0",))
        assert str(error) in outcome.state.warnings[-1]

    play(tmp_path, scenario)


def test_nor_does_one_that_cannot_be_waited_for(tmp_path: Path) -> None:
    class Busy(Qemu):
        async def wait_for_change(self, timeout_s: float) -> None:
            raise BusyError(f"not for {timeout_s:g} s")

    async def scenario(stage: World) -> None:
        stage.source.ending = Ending.STARTS_LATE
        stage.remote = Busy(stage.destination.path, End.DESTINATION, timeout_s=FAR_S)
        assert (await stage.drive()).state.phase is Phase.DONE

    play(tmp_path, scenario)


# --- the operator cancels --------------------------------------------------------------------


def test_a_command_cancelled_at_once_asks_nothing(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.watcher.cancel_in = Phase.PREPARE
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.FAILED
        assert stage.source.commands == stage.destination.commands == []

    play(tmp_path, scenario)


@pytest.mark.parametrize("phase", [Phase.DETACH, Phase.LAUNCH, Phase.MIGRATE])
def test_a_cancelled_migration_ends_as_it_began(tmp_path: Path, phase: Phase) -> None:
    async def scenario(stage: World) -> None:
        stage.source.ending = Ending.NEVER
        stage.watcher.cancel_in = phase
        outcome = await stage.drive()
        assert_back_at_source(stage, outcome)
        assert "cancelled by the operator" in message_of(outcome)
        assert (stage.source.migration == "cancelled") is (phase is Phase.MIGRATE)

    play(tmp_path, scenario)


def test_a_cancel_interrupts_the_wait_between_two_requests(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.source.guest = Guest.REFUSES
        stage.limits = replace(stage.limits, unplug_pause_s=30.0)

        def press(command: str) -> None:
            driver = stage.watcher.driver
            if command == "device_del" and driver is not None:
                asyncio.get_running_loop().call_later(0.02, driver.cancel)

        stage.source.on_command = press
        outcome = await asyncio.wait_for(stage.drive(), 15.0)
        assert_back_at_source(stage, outcome)

    play(tmp_path, scenario)


def test_a_cancel_that_comes_too_late_ends_where_the_guest_is(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.watcher.cancel_in = Phase.DECIDE
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.DONE
        assert "the guest had arrived already" in outcome.state.warnings[0]

    play(tmp_path, scenario)


def test_a_cancelled_attach_says_that_the_guest_runs(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.watcher.cancel_in = Phase.ATTACH
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.FAILED
        assert outcome.state.guest_at is End.DESTINATION
        assert "runs there on its standby NIC" in message_of(outcome)

    play(tmp_path, scenario)


def test_a_rollback_is_not_stopped_by_a_cancel(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.source.ending = Ending.FAILS
        stage.watcher.cancel_in = Phase.RESTORE
        outcome = await asyncio.wait_for(stage.drive(), 15.0)
        assert_back_at_source(stage, outcome)

    play(tmp_path, scenario)
