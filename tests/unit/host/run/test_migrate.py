"""A guest migrates, or does not, and the VF follows it; against two fake QEMUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from guestagent.host.hypervisor.qmp import downtime
from guestagent.host.migration.state import Phase
from guestagent.host.model import End
from guestagent.host.sriov.core.model import LeaseOwner, Process, Want
from tests.fakes.qmp import Ending, Fault
from tests.fakes.sriov import CLEAN, FakeVfPool
from tests.unit.host.support import MAC, World, assert_back_at_source, message_of, play

# --- the good end ----------------------------------------------------------------------------


def test_the_vf_moves_with_the_guest(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.DONE
        assert outcome.state.guest_at is End.DESTINATION
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
        assert names == [
            "prepare",
            "switch",
            "detach",
            "launch",
            "migrate",
            "decide",
            "attach",
            "confirm",
        ]
        assert all(span.start_s <= span.end_s for span in outcome.spans)
        assert [(moment.name, moment.end, moment.vf) for moment in outcome.moments] == [
            ("device_deleted", End.SOURCE, "vf0"),
            ("stop", End.SOURCE, None),
            ("resume", End.DESTINATION, None),
            ("device_added", End.DESTINATION, "vf0"),
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
        assert stage.source.parameters == {"downtime-limit": 10, "max-bandwidth": 104857600}
        # The bandwidth would be that of the guest's next migration, from there.
        assert stage.destination.parameters == {"downtime-limit": 250}

    play(tmp_path, scenario)


def test_a_guest_that_is_never_calm_gets_the_whole_downtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downtime, "RAISE_EVERY_S", 0.0)

    async def scenario(stage: World) -> None:
        stage.source.ending = Ending.NEVER
        limits_ms: list[int] = []

        def note(_: str) -> None:
            limits_ms.append(stage.source.parameters.get("downtime-limit", 300))
            if 160 in limits_ms and limits_ms[-1] == 300:
                stage.source.ending = Ending.COMPLETES

        stage.source.on_command = note
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.DONE
        assert list(dict.fromkeys(limits_ms))[1:] == [10, 20, 40, 80, 160]

    play(tmp_path, scenario)


@pytest.mark.parametrize("refused", [False, True], ids=["fails", "refused"])
def test_a_migration_that_fails_leaves_its_settings_to_nobody(
    tmp_path: Path, *, refused: bool
) -> None:
    """QEMU refuses one with a device that cannot move, for example."""

    async def scenario(stage: World) -> None:
        stage.source.parameters["max-bandwidth"] = 7 * 2**20
        stage.source.capabilities = {"auto-converge", "events"}
        stage.source.ending = Ending.FAILS
        if refused:
            stage.source.faults = {"migrate": [Fault.REFUSE]}
        slow = replace(stage.vm.migration, bandwidth_limit_mib_per_s=1, multifd_channels=2)
        stage.vm = replace(stage.vm, migration=slow)
        await stage.drive()
        assert stage.source.parameters["downtime-limit"] == 300
        assert stage.source.parameters["max-bandwidth"] == 7 * 2**20
        # Those of one that has begun are off for the next one here: see the contract.
        assert (stage.source.capabilities == {"auto-converge", "events"}) is refused

    play(tmp_path, scenario)


def test_the_capabilities_of_a_migration_are_set_at_both_ends(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        settings = replace(stage.vm.migration, auto_converge=True, multifd_channels=4)
        stage.vm = replace(stage.vm, migration=settings)
        await stage.drive()
        for qemu in (stage.source, stage.destination):
            assert qemu.capabilities == {"events", "return-path", "auto-converge", "multifd"}
            assert qemu.parameters["multifd-channels"] == 4

    play(tmp_path, scenario)


def test_a_vf_that_was_reserved_for_the_guest_is_the_one_that_it_gets(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.provide_vfs()
        host = stage.vf_hosts[End.DESTINATION]
        first, second = host.states
        pool = FakeVfPool(host)
        await pool.claim(Want(vf=second), LeaseOwner.by_hand("web1", MAC))
        await pool.claim(Want(vf=first), LeaseOwner.by_hand("web2", "52:54:00:aa:00:02"))
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.DONE
        assert outcome.state.attached == ("vf0",)
        assert host.states[second].mac == MAC
        assert {lease.owner.vm for lease in host.leases.values()} == {"web1", "web2"}

    play(tmp_path, scenario)


def test_of_two_vfs_with_its_mac_the_guest_has_the_one_that_a_process_has_open(
    tmp_path: Path,
) -> None:
    """The other is left from an earlier operation, which could not give it back."""

    async def scenario(stage: World) -> None:
        stage.provide_vfs()
        host = stage.vf_hosts[End.SOURCE]
        left, used = host.states
        (pair,) = stage.vm.pairs
        assert pair.sriov is not None
        unnamed = replace(pair.sriov, want=Want(pfs=("physnet1",)))
        stage.vm = replace(stage.vm, pairs=(replace(pair, sriov=unnamed),))
        for vf in (left, used):
            owner = LeaseOwner(vm="web1", operation=f"earlier/source/{vf}")
            await FakeVfPool(host).adopt(vf, owner, unnamed.settings)
        host.states[used] = host.states[left]
        host.users[used] = Process(pid=1, name="qemu")

        def close_vf(command: str) -> None:
            if command == "device_del":
                host.users.clear()

        stage.source.on_command = close_vf
        assert (await stage.drive()).state.phase is Phase.DONE
        assert host.states[used] == CLEAN
        assert set(host.leases) == {left}

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


# --- the migration does not take place -------------------------------------------------------


def test_a_failed_migration_gives_the_vf_back(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.source.ending = Ending.FAILS
        outcome = await stage.drive()
        assert_back_at_source(stage, outcome)
        assert "Broken pipe" in message_of(outcome)
        assert "destination: QEMU has ended" in message_of(outcome)

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
        stage.limits = replace(stage.limits, polls=4)
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.UNKNOWN
        assert "cont was refused on request" in " ".join(outcome.state.warnings)

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("end", "command"),
    [
        (End.SOURCE, "migrate"),
        (End.SOURCE, "migrate-set-capabilities"),
        (End.DESTINATION, "migrate-incoming"),
    ],
)
def test_a_refused_migration_gives_the_vf_back(tmp_path: Path, end: End, command: str) -> None:
    async def scenario(stage: World) -> None:
        qemu = stage.source if end is End.SOURCE else stage.destination
        qemu.faults = {command: [Fault.REFUSE]}
        outcome = await stage.drive()
        assert_back_at_source(stage, outcome)
        assert f"refused {command}" in message_of(outcome)

    play(tmp_path, scenario)


def test_a_migration_that_takes_too_long_is_cancelled(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.source.ending = Ending.NEVER
        stage.vm = replace(stage.vm, migration=replace(stage.vm.migration, timeout_s=0.1))
        outcome = await stage.drive()
        assert_back_at_source(stage, outcome)
        assert "has not ended within 0.1 s" in message_of(outcome)

    play(tmp_path, scenario)


def test_a_migration_that_cannot_be_cancelled_is_left_alone(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.source.ending = Ending.NEVER
        stage.source.faults = {"migrate_cancel": [Fault.REFUSE]}
        stage.limits = replace(stage.limits, cancel_grace_s=0.1)
        stage.vm = replace(stage.vm, migration=replace(stage.vm.migration, timeout_s=0.1))
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.UNKNOWN
        assert stage.source.run_state == "running"

    play(tmp_path, scenario)


# --- nothing is begun ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "run_state", "migration", "said"),
    [
        (End.SOURCE, "paused", None, "stands still"),
        (End.SOURCE, "postmigrate", "completed", "no guest runs here"),
        (End.SOURCE, "running", "active", "under way"),
        (End.DESTINATION, "running", None, "does not wait for a guest"),
        (End.DESTINATION, "inmigrate", "setup", "does not wait for a guest"),
    ],
)
def test_a_side_that_is_not_ready_is_named_and_nothing_changed(
    tmp_path: Path, end: End, run_state: str, migration: str | None, said: str
) -> None:
    async def scenario(stage: World) -> None:
        qemu = stage.source if end is End.SOURCE else stage.destination
        qemu.run_state, qemu.migration = run_state, migration
        stage.source.ending = Ending.NEVER
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.FAILED
        assert said in message_of(outcome)
        assert stage.source.asked_devices == []
        assert (qemu.run_state, qemu.migration) == (run_state, migration)

    play(tmp_path, scenario)


def test_a_destination_that_has_the_vf_already_is_refused(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.destination.devices["vf0"] = {"driver": "e1000e", "bus": "rp2"}
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.FAILED
        assert "vf0 is there already" in message_of(outcome)
        assert stage.source.asked_devices == []

    play(tmp_path, scenario)


@pytest.mark.parametrize("end", list(End))
def test_a_qemu_that_is_not_there_is_named(tmp_path: Path, end: End) -> None:
    async def scenario(stage: World) -> None:
        (stage.source if end is End.SOURCE else stage.destination).end()
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.FAILED
        assert f"{end}: QEMU has ended" in message_of(outcome)
        assert stage.source.asked_devices == []

    play(tmp_path, scenario)
