"""Post-copy: the guest runs at the destination while its memory follows; against two fakes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from guestagent.host.migration.state import Phase
from tests.fakes.qmp import FakeQemu, Fault
from tests.unit.host.support import World, play


def test_a_guest_whose_memory_follows_gets_its_vf_when_all_is_there(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.vm = replace(stage.vm, migration=replace(stage.vm.migration, postcopy=True))
        at_the_attach: list[str | None] = []
        stage.destination.on_command = lambda command: (
            at_the_attach.append(stage.source.migration) if command == "device_add" else None
        )
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.DONE
        assert stage.source.commands.count("migrate-start-postcopy") == 1
        assert "postcopy-ram" in stage.source.capabilities & stage.destination.capabilities
        assert at_the_attach == ["completed"]

    play(tmp_path, scenario)


@pytest.mark.parametrize("command", ["migrate-start-postcopy", "query-migrate-parameters"])
def test_an_adjustment_that_is_refused_does_not_end_a_migration(
    tmp_path: Path, command: str
) -> None:
    async def scenario(stage: World) -> None:
        stage.vm = replace(stage.vm, migration=replace(stage.vm.migration, postcopy=True))
        stage.source.faults = {command: [Fault.REFUSE]}
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.DONE
        assert set(stage.destination.devices) == {"vf0"}

    play(tmp_path, scenario)


def cancel_at_postcopy(stage: World) -> None:
    """Cancel the migration as soon as QEMU was asked to go on as post-copy."""

    def cancel(command: str) -> None:
        if command == "migrate-start-postcopy" and stage.watcher.driver is not None:
            stage.watcher.driver.cancel()

    stage.source.on_command = cancel


def test_a_migration_is_not_cancelled_once_post_copy_has_begun(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.vm = replace(stage.vm, migration=replace(stage.vm.migration, postcopy=True))
        stage.limits = replace(stage.limits, cancel_grace_s=0.0)

        cancel_at_postcopy(stage)
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.DONE
        assert "migrate_cancel" not in stage.source.commands
        assert "post-copy has begun, and cannot be cancelled" in " ".join(outcome.state.warnings)

    play(tmp_path, scenario)


def test_a_migration_is_not_cancelled_while_post_copy_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU takes the request at once and heeds it later; in between, its status says active."""
    monkeypatch.setattr(FakeQemu, "_migrate_start_postcopy", lambda _qemu: {})

    async def scenario(stage: World) -> None:
        stage.vm = replace(stage.vm, migration=replace(stage.vm.migration, postcopy=True))

        cancel_at_postcopy(stage)
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.DONE
        assert "migrate_cancel" not in stage.source.commands

    play(tmp_path, scenario)


def test_a_paused_post_copy_is_reported_at_once_and_followed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its network has gone: the guest stands still, and only an operator can let it go on."""

    async def scenario(stage: World) -> None:
        stage.vm = replace(stage.vm, migration=replace(stage.vm.migration, postcopy=True))
        asked = 0

        def pause(command: str) -> None:
            nonlocal asked
            asked += command == "query-migrate" and stage.source.migration == "postcopy-paused"
            if command == "query-migrate" and stage.source.migration == "postcopy-active":
                stage.source.migration = "postcopy-paused"
            elif asked == 3:
                stage.source.migration = "postcopy-active"
                stage.source.on_command = lambda _command: None

        stage.source.on_command = pause
        outcome = await stage.drive()
        assert (outcome.state.phase, outcome.state.warnings[1:]) == (Phase.DONE, ())
        assert asked == 3
        (message,) = [line for line in caplog.messages if "paused" in line]
        assert "migrate-recover" in message

    play(tmp_path, scenario)
