"""The program from its arguments to its exit code, against fakes behind real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from guestagent.host.cli import main
from guestagent.host.store.lock import vm_lock
from tests.fakes.qmp import Fault, Guest
from tests.unit.host.support import World, world

DESCRIPTION = """
name = "web1"
[source]
qmp = "{directory}/a.sock"
[destination]
qmp = "{directory}/b.sock"
uri = "unix:/run/migration.sock"
[[pair]]
mac = "52:54:00:aa:00:01"
standby = "net0"
vf = {{ driver = "e1000e", id = "vf0", bus = "rp2", mac = "52:54:00:aa:00:01" }}
[timeouts]
command_s = 20
attach_tries = 1
"""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[World]:
    """Two fakes that serve from a loop in a thread of their own; the test has the main one."""
    ready, done = threading.Event(), asyncio.Event()
    stages: list[World] = []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with world(tmp_path) as running:
            stages.append(running)
            ready.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(5)
    (tmp_path / "web1.toml").write_text(DESCRIPTION.format(directory=tmp_path))
    yield stages[0]
    loop.call_soon_threadsafe(done.set)
    thread.join(5)
    loop.close()


def run(directory: Path, command: str, *more: str) -> int:
    options = () if command == "inspect" else ("--state-dir", str(directory / "state"))
    return main.main([command, str(directory / "web1.toml"), *options, *more])


def test_migrate_prints_one_json_object_and_progress_elsewhere(
    tmp_path: Path, stage: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "migrate", "--json") == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["version"] == 1
    assert (report["command"], report["vm"], report["result"]) == ("migrate", "web1", "done")
    assert (report["exit_code"], report["running_on"]) == (0, "destination")
    assert report["accelerated"] is True
    assert report["message"] is report["hint"] is None
    (warning,) = report["warnings"]
    assert "no way to its agent is described" in warning
    assert report["guest"] == {"switched": False, "confirmed": None}
    assert [phase["name"] for phase in report["phases"]] == [
        "prepare",
        "detach",
        "launch",
        "migrate",
        "decide",
        "attach",
    ]
    assert set(report["phases"][0]) == {"name", "vf", "start_s", "end_s"}
    assert set(report["moments"][0]) == {"name", "side", "vf", "at_s", "received_s"}
    assert report["migration"] == {
        "total_ms": 1234,
        "downtime_ms": 45,
        "setup_ms": 3,
        "transferred_bytes": 4 * 2**20,
    }
    assert "web1: moving memory" in err
    assert stage.destination.run_state == "running"


def test_options_of_a_migration_stand_in_the_place_of_its_keys(
    tmp_path: Path, stage: World
) -> None:
    options = ("--bandwidth", "9", "--downtime", "77", "--multifd", "2", "--auto-converge")
    assert run(tmp_path, "migrate", *options) == 0
    assert stage.destination.parameters == {"downtime-limit": 77, "multifd-channels": 2}
    assert stage.source.parameters["max-bandwidth"] == 9 * 2**20
    assert stage.source.capabilities == {"events", "return-path", "multifd", "auto-converge"}


def test_an_option_that_qemu_would_refuse_is_wrong_usage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main(["migrate", "web1.toml", "--multifd", "256"])
    assert caught.value.code == 2
    assert "256 is more than QEMU takes: 255" in capsys.readouterr().err


def test_a_failure_has_exit_code_1_and_says_what_to_do(
    tmp_path: Path, stage: World, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.destination.faults = {"device_add": [Fault.REFUSE]}
    assert run(tmp_path, "migrate") == 1
    out, err = capsys.readouterr()
    assert out.startswith("web1: failed: destination: not attached: vf0")
    assert "what to do: " in out
    assert "refused device_add" in err


def test_a_failure_is_json_as_well(
    tmp_path: Path, stage: World, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.source.run_state = "paused"
    assert run(tmp_path, "migrate", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["result"], report["exit_code"]) == ("failed", 1)
    assert "stands still" in report["message"]
    assert report["hint"]
    assert report["migration"] is None


def test_detach_and_attach_say_what_is_so_now(
    tmp_path: Path, stage: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "detach") == 0
    assert "web1: done: the guest at source is on its standby NIC" in capsys.readouterr().out
    assert run(tmp_path, "attach") == 0
    assert "web1: done: the guest at source has vf0" in capsys.readouterr().out
    assert list(stage.source.devices) == ["vf0"]


def test_the_side_can_be_chosen(tmp_path: Path, stage: World) -> None:
    stage.destination.run_state = "running"
    assert run(tmp_path, "attach", "--on", "destination") == 0
    assert list(stage.destination.devices) == ["vf0"]
    assert stage.source.commands == []


def test_inspect_shows_the_nic(
    tmp_path: Path, stage: World, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.source.guest = Guest.RELEASES
    assert run(tmp_path, "inspect") == 0
    assert "vf0" in capsys.readouterr().out
    assert run(tmp_path, "inspect", "--json") == 0
    nics = json.loads(capsys.readouterr().out)["nics"]
    assert {nic["id"]: nic["role"] for nic in nics} == {
        "net0": "standby",
        "net1": None,
        "vf0": "vf",
    }


def test_a_vm_that_is_worked_on_is_to_be_tried_later(
    tmp_path: Path, stage: World, capsys: pytest.CaptureFixture[str]
) -> None:
    with vm_lock(tmp_path / "state", "web1"):
        assert run(tmp_path, "migrate", "--json") == 75
    out, err = capsys.readouterr()
    refused = json.loads(out)
    assert (refused["result"], refused["exit_code"]) == ("error", 75)
    assert refused["message"] in err
    assert refused["hint"] == "try again when it has ended"
    assert f"process {os.getpid()} is working on this VM" in err
    assert stage.source.commands == []
    assert run(tmp_path, "migrate") == 0, "the lock must not outlive its holder"


def test_an_operation_that_did_not_finish_is_recovered_once(
    tmp_path: Path, stage: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "recover") == 0
    said = capsys.readouterr().out
    assert "nothing to recover" in said
    assert "on another host there" in said, "it may be the wrong host"
    assert run(tmp_path, "detach") == 0
    (path,) = (tmp_path / "state" / "web1").glob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:4]))  # killed while the guest released the VF
    assert run(tmp_path, "attach", "--json") == 1
    assert "detach did not finish, it stopped in phase detach" in capsys.readouterr().err
    assert stage.source.devices == {}
    assert run(tmp_path, "recover", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["command"], report["result"]) == ("recover", "undone")
    assert (report["running_on"], report["accelerated"]) == ("source", True)
    assert list(stage.source.devices) == ["vf0"]
    asked = list(stage.source.commands)
    assert run(tmp_path, "recover", "--json") == 0
    assert json.loads(capsys.readouterr().out)["result"] == "nothing"
    assert stage.source.commands == asked
    assert run(tmp_path, "detach") == 0


def test_check_says_what_is_in_the_way_and_migrate_does_not_begin(
    tmp_path: Path, stage: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "check") == 0
    assert "web1: no obstacle to a migration" in capsys.readouterr().out
    stage.destination.fixed_ports.add("rp2")
    stage.source.can.clear()
    assert run(tmp_path, "check", "--json") == 1
    found = json.loads(capsys.readouterr().out)["findings"]
    assert {item["subject"] for item in found if item["grade"] == "wrong"} == {
        "capabilities",
        "port",
    }
    assert run(tmp_path, "migrate", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["result"], report["running_on"]) == ("failed", "source")
    assert report["accelerated"] is True
    assert "rp2 allows no hot-plug" in report["message"]
    assert "does not support events, return-path" in report["message"]
    assert list(stage.source.devices) == ["vf0"]
    with vm_lock(tmp_path / "state", "web1"):
        assert run(tmp_path, "check", "--json") == 1
    assert "is working on this VM" in capsys.readouterr().out


def test_a_prepared_migration_is_completed_or_rolled_back_and_nothing_else(
    tmp_path: Path, stage: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "complete") == run(tmp_path, "rollback") == 1
    assert "no migration is prepared" in capsys.readouterr().err
    assert run(tmp_path, "prepare", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["command"], report["result"], report["exit_code"]) == ("prepare", "prepared", 0)
    assert (report["running_on"], report["accelerated"]) == ("source", False)
    assert stage.source.devices == {}
    for command in ("migrate", "attach", "prepare"):
        assert run(tmp_path, command) == 1
        err = capsys.readouterr().err
        assert "a migration is prepared" in err
        assert "guestagent-host complete" in err
    assert run(tmp_path, "complete") == 75
    assert "web1: try again later: not yet: source: guest running" in capsys.readouterr().out
    assert run(tmp_path, "rollback") == 0
    assert "rollback: the migrate is undone, the guest runs at source with vf0" in (
        capsys.readouterr().out
    )
    assert list(stage.source.devices) == ["vf0"]
    assert run(tmp_path, "rollback") == 1


def test_an_operation_that_did_not_finish_can_be_forgotten(
    tmp_path: Path, stage: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "detach") == 0
    (path,) = (tmp_path / "state" / "web1").glob("*.jsonl")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:4]))
    asked = list(stage.source.commands)
    capsys.readouterr()
    assert run(tmp_path, "recover", "--forget") == 0
    assert "forgotten" in capsys.readouterr().out
    assert stage.source.commands == asked
    assert run(tmp_path, "recover", "--forget") == 0
    assert "nothing to recover" in capsys.readouterr().out
    assert run(tmp_path, "attach") == 0


def test_recovery_needs_the_description_of_what_it_is_about(
    tmp_path: Path, stage: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "detach") == 0
    (path,) = (tmp_path / "state" / "web1").glob("*.jsonl")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:4]))
    description = tmp_path / "web1.toml"
    description.write_text(description.read_text().replace('id = "vf0"', 'id = "other"'))
    assert run(tmp_path, "recover") == 2
    assert "concerns vf0 at source" in capsys.readouterr().err


def test_others_must_not_write_the_journal(
    tmp_path: Path, stage: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "detach") == 0
    directory = tmp_path / "state" / "web1"
    assert directory.stat().st_mode & 0o777 == 0o700
    directory.chmod(0o777)
    assert run(tmp_path, "attach") == 1
    assert "no other may write" in capsys.readouterr().err
    assert stage.source.devices == {}


def test_a_wrong_description_has_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "web1.toml").write_text("[source]\n")
    assert run(tmp_path, "migrate", "--json") == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["message"] in err
    assert "source.qmp is missing" in err


def test_a_description_without_destination_cannot_migrate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = DESCRIPTION.format(directory=tmp_path)
    cut = text[: text.index("[destination]")] + text[text.index("[[pair]]") :]
    (tmp_path / "web1.toml").write_text(cut)
    assert run(tmp_path, "migrate") == 2
    assert "has no [destination]" in capsys.readouterr().err


def test_a_state_directory_that_cannot_be_made_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state").write_text("a file")
    (tmp_path / "web1.toml").write_text(DESCRIPTION.format(directory=tmp_path))
    assert run(tmp_path, "detach") == 1
    assert "--state-dir" in capsys.readouterr().err


def test_the_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "[[pair]]" in out
    assert "75 try again later" in out


@pytest.mark.parametrize("arguments", [[], ["explode"], ["migrate"], ["attach", "x", "--on", "y"]])
def test_wrong_usage_has_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main(arguments)
    assert caught.value.code == 2
