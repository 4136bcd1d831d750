"""Every path of detach, attach and migrate, against two fake QEMUs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from guestagent.host.driver import Outcome
from guestagent.host.model import Side
from guestagent.host.state import Goal, Phase
from tests.fakes.qmp import Ending, Fault, Guest
from tests.unit.host.support import World, world

Scenario = Callable[[World], Awaitable[None]]


def play(
    directory: Path, scenario: Scenario, *, pairs: int = 1, destination_vf: bool = True
) -> None:
    async def play_it() -> None:
        async with world(directory, pairs=pairs, destination_vf=destination_vf) as stage:
            await scenario(stage)

    asyncio.run(play_it())


def told(outcome: Outcome) -> str:
    assert outcome.state.problem is not None
    return f"{outcome.state.problem.what} | {outcome.state.problem.hint}"


def assert_back_at_source(stage: World, outcome: Outcome) -> None:
    """One guest, at the source, accelerated as before."""
    assert outcome.state.phase is Phase.FAILED
    assert outcome.state.guest_at is Side.SOURCE
    assert stage.source.run_state == "running"
    assert stage.destination.run_state != "running"
    assert set(stage.source.devices) == {vf.id for vf in stage.vm.vfs_on(Side.SOURCE)}
    assert outcome.state.attached == tuple(stage.source.devices)


# --- the good end ---------------------------------------------------------------------------


def test_the_vf_moves_with_the_guest(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.DONE
        assert outcome.state.guest_at is Side.DESTINATION
        assert outcome.state.attached == ("vf0",)
        assert outcome.state.warnings == ()
        assert stage.source.devices == {}
        assert stage.source.run_state == "postmigrate"
        assert stage.destination.run_state == "running"
        assert stage.destination.devices["vf0"] == {
            "driver": "e1000e",
            "bus": "rp2",
            "netdev": "vf",
            "mac": "52:54:00:aa:00:01",
        }

    play(tmp_path, scenario)


def test_phases_and_moments_are_in_order_of_time(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        outcome = await stage.drive()
        names = [span.phase for span in outcome.spans]
        assert names == ["prepare", "detach", "launch", "migrate", "decide", "attach"]
        assert all(span.start_s <= span.end_s for span in outcome.spans)
        assert [(moment.name, moment.side, moment.vf) for moment in outcome.moments] == [
            ("device_deleted", Side.SOURCE, "vf0"),
            ("stop", Side.SOURCE, None),
            ("resume", Side.DESTINATION, None),
            ("device_added", Side.DESTINATION, "vf0"),
        ]
        ends = {span.phase: span for span in outcome.spans}
        deleted = outcome.moments[0]
        # The fake's stamp has microseconds only.
        assert ends[Phase.DETACH].start_s - 0.001 <= deleted.at_s <= deleted.received_s
        assert deleted.received_s <= ends[Phase.DETACH].end_s
        assert outcome.figures is not None
        assert (outcome.figures.total_ms, outcome.figures.downtime_ms) == (1234, 45)

    play(tmp_path, scenario)


def test_progress_has_bytes_rate_and_time_left(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        await stage.drive()
        assert stage.watcher.progress
        first = stage.watcher.progress[0]
        assert first.total_bytes == 2**22
        assert first.rate_bytes_per_s == pytest.approx(800.5e6 / 8)
        assert first.time_left_s == pytest.approx(first.remaining_bytes / (800.5e6 / 8))

    play(tmp_path, scenario)


def test_settings_reach_both_sides_in_qemus_units(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        settings = replace(
            stage.vm.migration, downtime_limit_ms=250, bandwidth_limit_mib_per_s=100
        )
        stage.vm = replace(stage.vm, migration=settings)
        await stage.drive()
        for qemu in (stage.source, stage.destination):
            assert qemu.capabilities == {"events", "return-path"}
            assert qemu.parameters == {"downtime-limit": 250, "max-bandwidth": 104857600}

    play(tmp_path, scenario)


def test_two_vfs_go_and_come_one_after_the_other(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.DONE
        assert stage.source.devices == {}
        assert set(stage.destination.devices) == {"vf0", "vf1"}
        assert [span.vf for span in outcome.spans if span.phase is Phase.DETACH] == ["vf0", "vf1"]

    play(tmp_path, scenario, pairs=2)


def test_a_destination_without_a_vf_is_a_success_with_a_warning(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.DONE
        assert outcome.state.attached == ()
        assert "un-accelerated" in outcome.state.warnings[0]
        assert stage.destination.devices == {}

    play(tmp_path, scenario, destination_vf=False)


def test_a_guest_without_its_vf_migrates_and_gets_one(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.source.devices.clear()
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.DONE
        assert stage.source.asked_devices == []
        assert "vf0" in stage.destination.devices

    play(tmp_path, scenario)


def test_a_destination_that_loads_slowly_is_waited_for(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.source.ending = Ending.STARTS_LATE
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.DONE
        assert stage.destination.run_state == "running"

    play(tmp_path, scenario)


def test_a_destination_that_was_started_stopped_is_let_run(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.source.ending = Ending.STAYS_STOPPED
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.DONE
        assert stage.destination.run_state == "running"
        assert stage.source.run_state == "postmigrate"

    play(tmp_path, scenario)


# --- the VF does not go ---------------------------------------------------------------------


@pytest.mark.parametrize("guest", [Guest.RELEASES_FIRST, Guest.RELEASES_UNSEEN])
def test_a_vf_that_has_gone_is_seen_however_it_went(tmp_path: Path, guest: Guest) -> None:
    async def scenario(stage: World) -> None:
        stage.source.guest = guest
        outcome = await stage.drive(Goal.DETACH)
        assert outcome.state.phase is Phase.DONE
        assert stage.source.devices == {}

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("guest", "said"), [(Guest.REFUSES, "refuses to release vf0"), (Guest.HANGS, "within 0.15 s")]
)
def test_a_guest_that_keeps_its_vf_is_asked_three_times_and_stays(
    tmp_path: Path, guest: Guest, said: str
) -> None:
    async def scenario(stage: World) -> None:
        stage.source.guest = guest
        outcome = await stage.drive()
        assert_back_at_source(stage, outcome)
        assert stage.source.asked_devices == ["vf0"] * 3
        assert said in told(outcome)
        assert "may still release the VF" in told(outcome)
        assert "migrate" not in stage.source.commands

    play(tmp_path, scenario)


def test_a_vf_that_went_before_the_second_refused_comes_back(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        def then_hang(command: str) -> None:
            if stage.source.commands.count("device_del") == 2:
                stage.source.guest = Guest.REFUSES

        stage.source.on_command = then_hang
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.FAILED
        assert set(stage.source.devices) == {"vf0", "vf1"}
        assert "vf1" in told(outcome)

    play(tmp_path, scenario, pairs=2)


def test_a_guest_that_answers_after_the_last_request_gets_its_vf_back(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.source.guest = Guest.REFUSES

        def late(command: str) -> None:
            asked = stage.source.commands.count("device_del") == 3
            if asked and command == "query-status" and stage.source.asked_devices:
                stage.source.devices.pop("vf0", None)
                stage.source.asked_devices.clear()

        stage.source.on_command = late
        outcome = await stage.drive()
        assert_back_at_source(stage, outcome)
        assert Phase.RESTORE in stage.watcher.phases

    play(tmp_path, scenario)


def test_a_request_that_the_guest_still_has_is_waited_for(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.source.faults = {"device_del": [Fault.REFUSE]}
        outcome = await stage.drive(Goal.DETACH)
        assert outcome.state.phase is Phase.DONE
        assert stage.source.asked_devices == ["vf0"]

    play(tmp_path, scenario)


# --- the migration does not take place ------------------------------------------------------


def test_a_failed_migration_gives_the_vf_back(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.source.ending = Ending.FAILS
        outcome = await stage.drive()
        assert_back_at_source(stage, outcome)
        assert "Broken pipe" in told(outcome)
        assert "destination: QEMU has ended" in told(outcome)

    play(tmp_path, scenario)


def test_a_source_that_stands_still_alone_is_let_run(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.source.ending = Ending.FAILS_STOPPED
        outcome = await stage.drive()
        assert_back_at_source(stage, outcome)
        assert stage.source.commands.count("cont") == 1

    play(tmp_path, scenario)


def test_a_source_that_cannot_be_let_run_ends_as_unknown(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.source.ending = Ending.FAILS_STOPPED
        stage.source.faults = {"cont": [Fault.REFUSE] * 99}
        stage.limits = replace(stage.limits, looks=4)
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.UNKNOWN
        assert "cont was refused on request" in " ".join(outcome.state.warnings)

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("side", "command"),
    [
        (Side.SOURCE, "migrate"),
        (Side.SOURCE, "migrate-set-capabilities"),
        (Side.DESTINATION, "migrate-incoming"),
    ],
)
def test_a_refused_migration_gives_the_vf_back(tmp_path: Path, side: Side, command: str) -> None:
    async def scenario(stage: World) -> None:
        qemu = stage.source if side is Side.SOURCE else stage.destination
        qemu.faults = {command: [Fault.REFUSE]}
        outcome = await stage.drive()
        assert_back_at_source(stage, outcome)
        assert f"refused {command}" in told(outcome)

    play(tmp_path, scenario)


def test_a_migration_that_takes_too_long_is_cancelled(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.source.ending = Ending.NEVER
        stage.vm = replace(stage.vm, migration=replace(stage.vm.migration, timeout_s=0.1))
        outcome = await stage.drive()
        assert_back_at_source(stage, outcome)
        assert "has not ended within 0.1 s" in told(outcome)

    play(tmp_path, scenario)


def test_a_migration_that_cannot_be_cancelled_is_left_alone(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.source.ending = Ending.NEVER
        stage.source.faults = {"migrate_cancel": [Fault.REFUSE]}
        stage.vm = replace(stage.vm, migration=replace(stage.vm.migration, timeout_s=0.1))
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.UNKNOWN
        assert stage.source.run_state == "running"

    play(tmp_path, scenario)


# --- nothing is begun -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "run_state", "migration", "said"),
    [
        (Side.SOURCE, "paused", None, "stands still"),
        (Side.SOURCE, "postmigrate", "completed", "no guest runs here"),
        (Side.SOURCE, "running", "active", "under way"),
        (Side.DESTINATION, "running", None, "does not wait for a guest"),
        (Side.DESTINATION, "inmigrate", "setup", "does not wait for a guest"),
    ],
)
def test_a_side_that_is_not_ready_is_named_and_nothing_changed(
    tmp_path: Path, side: Side, run_state: str, migration: str | None, said: str
) -> None:
    async def scenario(stage: World) -> None:
        qemu = stage.source if side is Side.SOURCE else stage.destination
        qemu.run_state, qemu.migration = run_state, migration
        stage.source.ending = Ending.NEVER
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.FAILED
        assert said in told(outcome)
        assert stage.source.asked_devices == []
        assert (qemu.run_state, qemu.migration) == (run_state, migration)

    play(tmp_path, scenario)


def test_a_destination_that_has_the_vf_already_is_refused(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.destination.devices["vf0"] = {"driver": "e1000e", "bus": "rp2"}
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.FAILED
        assert "vf0 is there already" in told(outcome)
        assert stage.source.asked_devices == []

    play(tmp_path, scenario)


@pytest.mark.parametrize("side", list(Side))
def test_a_qemu_that_is_not_there_is_named(tmp_path: Path, side: Side) -> None:
    async def scenario(stage: World) -> None:
        (stage.source if side is Side.SOURCE else stage.destination).end()
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.FAILED
        assert f"{side}: QEMU has ended" in told(outcome)
        assert stage.source.asked_devices == []

    play(tmp_path, scenario)


# --- the VF does not come -------------------------------------------------------------------


def test_an_attach_that_is_refused_is_tried_again(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.destination.faults = {"device_add": [Fault.REFUSE, Fault.REFUSE]}
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.DONE
        assert "vf0" in stage.destination.devices
        assert len(outcome.state.warnings) == 2

    play(tmp_path, scenario)


def test_an_attach_that_fails_for_good_leaves_a_running_guest(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.destination.faults = {"device_add": [Fault.REFUSE] * 3}
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.FAILED
        assert outcome.state.guest_at is Side.DESTINATION
        assert outcome.state.attached == ("vf1",)
        assert stage.destination.run_state == "running"
        assert "not attached: vf0" in told(outcome)
        assert "attach --on destination" in told(outcome)

    play(tmp_path, scenario, pairs=2)


def test_a_vf_that_cannot_be_given_back_is_named(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.source.ending = Ending.FAILS
        stage.source.faults = {"device_add": [Fault.REFUSE] * 3}
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.FAILED
        assert stage.source.run_state == "running"
        assert "source: not attached: vf0" in outcome.state.warnings

    play(tmp_path, scenario)


@pytest.mark.parametrize("fault", [Fault.HANG_UP_BEFORE, Fault.HANG_UP_AFTER, Fault.SILENT])
def test_an_attach_whose_answer_is_lost_is_looked_after(tmp_path: Path, fault: Fault) -> None:
    async def scenario(stage: World) -> None:
        stage.destination.faults = {"device_add": [fault]}
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.DONE
        assert outcome.state.attached == ("vf0",)
        assert list(stage.destination.devices) == ["vf0"]
        # What was done was not done twice.
        tries = 2 if fault is Fault.HANG_UP_BEFORE else 1
        assert stage.destination.commands.count("device_add") == tries

    play(tmp_path, scenario)


# --- the connection is lost -----------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.HANG_UP_BEFORE, Fault.HANG_UP_AFTER, Fault.SILENT])
def test_an_unplug_whose_answer_is_lost_ends_with_the_vf_at_the_source(
    tmp_path: Path, fault: Fault
) -> None:
    async def scenario(stage: World) -> None:
        stage.source.faults = {"device_del": [fault]}
        outcome = await stage.drive()
        assert_back_at_source(stage, outcome)
        assert "device_del" in told(outcome)

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
        assert outcome.state.guest_at is Side.DESTINATION
        assert stage.source.commands.count("migrate") == 1
        assert "connection lost" in outcome.state.warnings[0]

    play(tmp_path, scenario)


def test_a_migration_that_began_though_its_answer_was_lost_is_followed(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.source.faults = {"migrate": [Fault.HANG_UP_AFTER]}
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.DONE
        assert outcome.state.guest_at is Side.DESTINATION
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
        assert "source: QEMU has ended" in told(outcome)
        assert "destination: guest inmigrate" in told(outcome)
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
        assert outcome.state.guest_at is Side.DESTINATION

    play(tmp_path, scenario)


# --- the operator cancels -------------------------------------------------------------------


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
        assert "cancelled by the operator" in told(outcome)
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
        outcome = await asyncio.wait_for(stage.drive(), 1.0)
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
        assert outcome.state.guest_at is Side.DESTINATION
        assert "runs there on its standby NIC" in told(outcome)

    play(tmp_path, scenario)


def test_a_rollback_is_not_stopped_by_a_cancel(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.source.ending = Ending.FAILS
        stage.watcher.cancel_in = Phase.RESTORE
        outcome = await asyncio.wait_for(stage.drive(), 2.0)
        assert_back_at_source(stage, outcome)

    play(tmp_path, scenario)


# --- detach and attach alone ----------------------------------------------------------------


def test_detach_and_attach_undo_each_other_and_may_be_repeated(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        for goal, devices in (
            (Goal.ATTACH, ["vf0"]),
            (Goal.DETACH, []),
            (Goal.DETACH, []),
            (Goal.ATTACH, ["vf0"]),
        ):
            outcome = await stage.drive(goal)
            assert outcome.state.phase is Phase.DONE
            assert list(stage.source.devices) == devices
            assert outcome.state.attached == tuple(devices)
        assert stage.source.asked_devices == ["vf0"]
        assert stage.destination.commands == []

    play(tmp_path, scenario)


def test_an_attach_to_a_qemu_that_waits_for_a_guest_is_refused(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.source.run_state = "inmigrate"
        stage.source.devices.clear()
        outcome = await stage.drive(Goal.ATTACH)
        assert outcome.state.phase is Phase.FAILED
        assert "the guest is not here" in told(outcome)
        assert stage.source.devices == {}

    play(tmp_path, scenario)
