"""A destination on another host: the far end is this program, as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guestagent.errors import (
    BusyError,
    ConfigurationError,
    GuestAgentError,
    UnknownOutcomeError,
)
from guestagent.host.hypervisor.base import RefusedError
from guestagent.host.hypervisor.qmp.qemu import Qemu
from guestagent.host.migration.state import Phase
from guestagent.host.model import Device, End, Endpoint, QemuState
from guestagent.host.remote import client, rpc
from guestagent.host.remote import server as serve_module
from guestagent.host.remote.client import Remote, remote_destination, ssh_command
from guestagent.host.remote.rpc import Hello
from guestagent.host.remote.server import Server
from guestagent.host.store.lock import vm_lock
from tests.fakes.qmp import Fault
from tests.unit.host.cli.test_main import run, stage
from tests.unit.host.support import FAR_S, World, assert_back_at_source, play

__all__ = ["stage"]


def far_end(state_dir: Path) -> list[str]:
    """Return the command of a far end, as ssh would run it."""
    argv = [sys.executable, "-m", "guestagent.host.cli.main", "serve"]
    return [*argv, "--state-dir", str(state_dir)]


class Mortal(Remote):
    """A far end that is killed as it is called for the ``deadly``-th time, from 1."""

    deadly = 0
    calls: list[str]

    async def _exchange(self, name: str, arguments: tuple[object, ...], timeout_s: float) -> Any:
        self.calls.append(name)
        if len(self.calls) == self.deadly and self._process is not None:
            self._process.kill()
        return await super()._exchange(name, arguments, timeout_s)


def to(stage: World, directory: Path, *, deadly: int = 0) -> Mortal:
    """Return the way to the host of the destination."""
    hello = Hello(vm="web1", sockets=Endpoint(qmp=stage.destination.path), command_s=FAR_S)
    far = Mortal(far_end(directory / "far"), hello, origin="ssh://host2")
    far.deadly, far.calls = deadly, []
    stage.remote = remote_destination(far)
    return far


def test_a_guest_moves_to_another_host(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        far = to(stage, tmp_path)
        outcome = await stage.drive()
        assert outcome.state.phase is Phase.DONE
        assert outcome.state.guest_at is End.DESTINATION
        assert "vf0" in stage.destination.devices
        assert far.calls[0] == "hello"
        with vm_lock(tmp_path / "far", "web1"):
            pass  # the far end has ended, and its lock with it

    play(tmp_path, scenario)


@pytest.mark.parametrize("deadly", [2, 3, 4, 6])
def test_the_death_of_the_far_end_is_asked_about_on_a_new_connection(
    tmp_path: Path, deadly: int
) -> None:
    async def scenario(stage: World) -> None:
        far = to(stage, tmp_path, deadly=deadly)
        outcome = await stage.drive()
        assert far.calls.count("hello") == (2 if len(far.calls) >= deadly else 1)
        if outcome.state.phase is Phase.DONE:
            assert set(stage.destination.devices) == {"vf0"}
            assert stage.source.run_state == "postmigrate"
        else:
            assert_back_at_source(stage, outcome)

    play(tmp_path, scenario)


def test_an_error_of_the_far_end_keeps_its_class(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        to(stage, tmp_path)
        far = stage.remote
        assert far is not None
        stage.destination.faults = {"device_add": [Fault.REFUSE], "cont": [Fault.HANG_UP_AFTER]}
        with pytest.raises(RefusedError, match="ssh://host2: destination QEMU"):
            await far.plug(Device(driver="x", id="y", bus="rp2"), FAR_S)
        with pytest.raises(UnknownOutcomeError):
            await far.resume()
        here = Qemu(stage.destination.path, End.DESTINATION, timeout_s=FAR_S)
        for ask in ("look", "topology", "capabilities"):
            there = await getattr(far, ask)()
            await far.close()  # QEMU serves one client at a time
            assert there == await getattr(here, ask)()
            await here.close()
        await far.close()

    play(tmp_path, scenario)


def test_a_vm_that_is_worked_on_there_is_to_be_tried_later(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        far = to(stage, tmp_path)
        with vm_lock(tmp_path / "far", "web1"), pytest.raises(BusyError):
            await far.call("look", timeout_s=FAR_S)

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    "command",
    [
        ["/does/not/exist"],
        ["false"],
        ["echo", "rubbish"],
        ["echo", '{"v": 1, "id": 1}'],
        ["echo", '{"v": 1, "id": 2, "ok": true, "value": null}'],
        ["echo", '{"v": 1, "id": 1, "ok": true, "value": 7}'],
        ["cat", "/dev/zero"],
        ["yes", ""],
        ["yes", "{" * 1000],
        ["sleep", "60"],
    ],
)
def test_a_far_end_that_is_none_is_an_error_in_bounded_time(
    command: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CONNECT_S", 0.5)
    hello = Hello(vm="web1", sockets=Endpoint(qmp=Path("/q")), command_s=1.0)

    async def look() -> QemuState:
        far = remote_destination(Remote(command, hello, origin="ssh://host2"))
        try:
            async with asyncio.timeout(20.0):
                return await far.look()
        finally:
            await far.close()

    view = asyncio.run(look())
    assert view.unreachable is not None
    assert "ssh://host2" in view.unreachable
    assert not view.gone, "silence proves nothing"


def test_the_last_line_of_ssh_is_the_reason_of_the_error() -> None:
    script = "echo welcome >&2; echo 'Permission denied (publickey).' >&2; exit 255"
    hello = Hello(vm="web1", sockets=Endpoint(qmp=Path("/q")), command_s=1.0)

    async def look() -> QemuState:
        far = Remote(["sh", "-c", script], hello, origin="ssh://host2")
        return await remote_destination(far).look()

    view = asyncio.run(look())
    assert view.unreachable is not None
    assert view.unreachable.endswith(
        "does not answer there: welcome; Permission denied (publickey)."
    )


def test_a_far_end_that_is_busy_with_a_lost_call_is_waited_for(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        far = to(stage, tmp_path, deadly=3)
        assert stage.remote is not None
        assert (await stage.remote.look()).unreachable is None
        with ExitStack() as lost_call:
            with pytest.raises(UnknownOutcomeError):
                await far.call("proceed", timeout_s=FAR_S)
            lost_call.enter_context(vm_lock(tmp_path / "far", "web1"))
            asyncio.get_running_loop().call_later(0.2, lost_call.close)
            assert (await stage.remote.look()).unreachable is None
        await far.close()

    play(tmp_path, scenario)


def test_signs_of_life_are_no_answers(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        far = to(stage, tmp_path)
        far._command = ["sh", "-c", f"echo; echo; exec {shlex.join(far_end(tmp_path / 'far'))}"]
        assert stage.remote is not None
        assert (await stage.remote.look()).unreachable is None
        await far.close()

    play(tmp_path, scenario)


# --- the far end ----------------------------------------------------------------------------


def test_a_far_end_with_nothing_to_do_shows_that_it_is_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By that its sshd finds out that the near host went away, and the VM's lock is free."""
    monkeypatch.setattr(serve_module, "SIGN_OF_LIFE_S", 0.01)

    async def conversation() -> None:
        reader, written = asyncio.StreamReader(), asyncio.Event()
        lines: list[bytes] = []

        def write(line: bytes) -> None:
            lines.append(line)
            written.set()

        serving = asyncio.create_task(Server(tmp_path / "far").serve(reader, write))
        await asyncio.wait_for(written.wait(), 30)
        assert lines[0] == b"\n"
        reader.feed_data(hello_to(tmp_path)[:5])
        written.clear()
        await asyncio.wait_for(written.wait(), 30)
        reader.feed_data(hello_to(tmp_path)[5:])
        reader.feed_eof()
        await asyncio.wait_for(serving, 30)
        assert [json.loads(line)["ok"] for line in lines if line.strip()] == [True]

    asyncio.run(conversation())


def serve(directory: Path, *lines: bytes) -> list[dict[str, Any]]:
    """Return the answers of a far end to these lines."""
    written: list[bytes] = []

    async def conversation() -> None:
        reader = asyncio.StreamReader(limit=rpc.MAX_LINE_BYTES)
        reader.feed_data(b"".join(lines))
        reader.feed_eof()
        await Server(directory / "far").serve(reader, written.append)

    asyncio.run(conversation())
    return [json.loads(line) for line in written]


def hello_to(directory: Path) -> bytes:
    """Return the line of a hello."""
    sockets = Endpoint(qmp=directory / "absent.sock")
    return rpc.request(1, "hello", (Hello(vm="web1", sockets=sockets, command_s=1.0),))


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"[]\n",
        b'{"v": 2, "id": 1, "call": "look", "arguments": []}\n',
        b'{"v": 1, "id": 1, "call": "close", "arguments": []}\n',
        b'{"v": 1, "id": 1, "call": "__init__", "arguments": []}\n',
        b'{"v": 1, "id": 1, "call": "plug", "arguments": []}\n',
        b'{"v": 1, "id": 1, "call": "plug", "arguments": [{"is": "Vm"}, 1.0]}\n',
        b'{"v": 1, "id": 1, "call": "look", "arguments": [1]}\n',
        b'{"v": 1, "id": "x", "call": "look", "arguments": []}\n',
        b'{"v": 1, "id": 1, "call": "look", "arguments": []}\n',
    ],
)
def test_a_malformed_call_gets_an_error_and_the_connection_stays(
    tmp_path: Path, line: bytes
) -> None:
    answers = serve(tmp_path, line, hello_to(tmp_path), rpc.request(2, "look", ()))
    assert [answer["ok"] for answer in answers] == [False, True, True]
    assert answers[2]["value"]["unreachable"]


@given(line=st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_no_line_ends_the_far_end(tmp_path_factory: pytest.TempPathFactory, line: bytes) -> None:
    directory = tmp_path_factory.getbasetemp()
    answers = serve(directory, line.replace(b"\n", b" ") + b"\n", hello_to(directory))
    assert [answer["ok"] for answer in answers] == [False, True]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=12,
)


@given(value=JSON, ok=st.booleans(), name=st.sampled_from(sorted(rpc.CALLS)))
@settings(max_examples=150, deadline=None)
def test_no_answer_of_the_far_end_is_more_than_an_error(
    value: object, name: str, *, ok: bool
) -> None:
    line = json.dumps({"v": 1, "id": 5, "ok": ok, "value": value, "error": value}).encode()
    try:
        rpc.read_answer(line, 5, name, "ssh://host2")
    except GuestAgentError as error:
        assert len(str(error)) < 1000  # noqa: PT017 - most are errors, a few are true answers


def test_an_endless_line_ends_it(tmp_path: Path) -> None:
    (answer,) = serve(tmp_path, b"x" * (2 * rpc.MAX_LINE_BYTES + 2))
    assert "too long" in answer["error"]["message"]


# --- the way there --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ssh://host2", "-- host2 guestagent-host serve"),
        ("ssh://root@host2.example:2222", "-p 2222 -l root -- host2.example"),
        ("ssh://[fd00::2]", "-- fd00::2 guestagent-host"),
    ],
)
def test_the_command_reaches_the_host(url: str, words: str) -> None:
    assert words in " ".join(ssh_command(url))


@pytest.mark.parametrize(
    "url", ["host2", "ssh://", "ssh://-oProxyCommand=x", "ssh://a b", "ssh://h;rm", "ssh://h:x"]
)
def test_what_names_no_host_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        ssh_command(url)


def stand_in_for_ssh(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an ``ssh`` whose every host is this one, and which notes what it was asked."""
    ssh = directory / "bin" / "ssh"
    ssh.parent.mkdir()
    there = shlex.join(far_end(directory / "far"))
    ssh.write_text(f'#!/bin/sh\necho "$@" >>{directory}/asked\nexec {there}\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


def test_migrate_goes_where_dest_says_and_recover_remembers_it(
    tmp_path: Path,
    stage: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stand_in_for_ssh(tmp_path, monkeypatch)
    assert run(tmp_path, "check", "--dest", "ssh://host2") == 0
    assert run(tmp_path, "prepare", "--dest", "ssh://root@host2") == 0
    assert (
        (tmp_path / "asked")
        .read_text()
        .splitlines()[-1]
        .endswith("-l root -- host2 guestagent-host serve")
    )
    asked = len((tmp_path / "asked").read_text().splitlines())
    assert run(tmp_path, "recover", "--json") == 0
    assert len((tmp_path / "asked").read_text().splitlines()) > asked
    assert run(tmp_path, "migrate", "--dest", "ssh://host2") == 0
    assert "done: the guest runs at destination with vf0" in capsys.readouterr().out
    assert run(tmp_path, "migrate", "--dest", "host2") == 2
    asked = len((tmp_path / "asked").read_text().splitlines())
    for command in ("detach", "attach", "inspect"):
        where = ("--on", "destination", "--dest", "ssh://host2")
        assert run(tmp_path, command, *where) == 0
    assert len((tmp_path / "asked").read_text().splitlines()) == asked + 3
    description = tmp_path / "web1.toml"
    text = description.read_text()
    description.write_text(text.replace("[destination]", '[destination]\nhost = "ssh://host2"'))
    capsys.readouterr()
    assert run(tmp_path, "inspect", "--on", "destination") == 0
    assert "web1 at destination: guest running" in capsys.readouterr().out
    description.write_text(text.replace("[destination]", '[destination]\nhost = "host2"'))
    assert run(tmp_path, "check") == 2


@pytest.mark.usefixtures("stage")
@pytest.mark.parametrize("command", ["rollback", "recover"])
def test_an_operation_begun_with_dest_is_resumed_on_that_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    stand_in_for_ssh(tmp_path, monkeypatch)
    description = tmp_path / "web1.toml"
    named = '[destination]\nhost = "ssh://host2"'
    description.write_text(description.read_text().replace("[destination]", named))
    assert run(tmp_path, "prepare", "--dest", "ssh://host3") == 0
    (tmp_path / "asked").unlink()
    run(tmp_path, command)
    (asked,) = (tmp_path / "asked").read_text().splitlines()
    assert asked.endswith("-- host3 guestagent-host serve")
