"""A VF goes and comes, or does not; against two fake QEMUs."""

from __future__ import annotations

from pathlib import Path

import pytest

from guestagent.host.migration.state import Goal, Phase
from guestagent.host.model import End
from tests.fakes.qmp import Ending, Fault, Guest
from tests.unit.host.support import World, assert_back_at_source, message_of, play

# --- the VF does not go ----------------------------------------------------------------------


@pytest.mark.parametrize("guest", [Guest.RELEASES_FIRST, Guest.RELEASES_UNSEEN])
def test_a_vf_that_has_gone_is_seen_however_it_went(tmp_path: Path, guest: Guest) -> None:
    async def scenario(stage: World) -> None:
        stage.source.guest = guest
        if guest is Guest.RELEASES_UNSEEN:
            stage.shorten(unplug_s=0.1)
        outcome = await stage.drive(Goal.DETACH)
        assert outcome.state.phase is Phase.DONE
        assert stage.source.devices == {}

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("guest", "said"), [(Guest.REFUSES, "refused to release vf0"), (Guest.HANGS, "within 0.1 s")]
)
def test_a_guest_that_keeps_its_vf_is_asked_three_times_and_stays(
    tmp_path: Path, guest: Guest, said: str
) -> None:
    async def scenario(stage: World) -> None:
        stage.source.guest = guest
        if guest is Guest.HANGS:
            stage.shorten(unplug_s=0.1)
        outcome = await stage.drive()
        assert_back_at_source(stage, outcome)
        assert stage.source.asked_devices == ["vf0"] * 3
        assert said in message_of(outcome)
        assert "may still release the VF" in message_of(outcome)
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
        assert "vf1" in message_of(outcome)

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
        stage.source.guest = Guest.RELEASES_LATE
        stage.shorten(unplug_s=0.1)
        outcome = await stage.drive(Goal.DETACH)
        assert outcome.state.phase is Phase.DONE
        assert stage.source.asked_devices == ["vf0"] * 2

    play(tmp_path, scenario)


# --- the VF does not come --------------------------------------------------------------------


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
        assert outcome.state.guest_at is End.DESTINATION
        assert outcome.state.attached == ("vf1",)
        assert stage.destination.run_state == "running"
        assert "not attached: vf0" in message_of(outcome)
        assert "attach --on destination" in message_of(outcome)

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
        if fault is Fault.SILENT:
            stage.shorten(attach_s=0.1)
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.DONE
        assert outcome.state.attached == ("vf0",)
        assert list(stage.destination.devices) == ["vf0"]
        # What was done was not done twice.
        tries = 2 if fault is Fault.HANG_UP_BEFORE else 1
        assert stage.destination.commands.count("device_add") == tries

    play(tmp_path, scenario)


# --- detach and attach alone -----------------------------------------------------------------


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
        assert "the guest is not here" in message_of(outcome)
        assert stage.source.devices == {}

    play(tmp_path, scenario)
