"""The control socket: every line gets an answer, whatever it is."""

from __future__ import annotations

import asyncio
import grp
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from guestagent.errors import ConfigurationError, GuestAgentError
from guestagent.guest.api.client import ask
from guestagent.guest.api.unix_socket import CLIENTS_AT_ONCE, ControlSocket
from guestagent.protocol import MAX_LINE_BYTES, Request, encode_request

Answer = dict[str, object]


async def handler(request: Request) -> Mapping[str, object]:
    if request.name == "fail":
        raise GuestAgentError("it failed", hint="try something else")
    return {"asked": request.name}


def serving(tmp_path: Path, client: Callable[[Path], Awaitable[None]]) -> None:
    async def run() -> None:
        path = tmp_path / "control.sock"
        control = ControlSocket(handler, path)
        await control.start()
        try:
            await asyncio.wait_for(client(path), 10)
        finally:
            await control.stop()
        assert not path.exists()

    asyncio.run(run())


async def talk(path: Path, *lines: bytes) -> list[Answer]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"".join(lines))
    writer.write_eof()
    answers = [json.loads(line) for line in (await reader.read()).splitlines()]
    writer.close()
    return answers


def test_each_line_is_answered_in_order_and_garbage_with_an_error(tmp_path: Path) -> None:
    async def client(path: Path) -> None:
        answers = await talk(
            path,
            encode_request("one", ident=1),
            b"garbage\n",
            encode_request("fail", ident=2),
            b"x" * (MAX_LINE_BYTES * 3) + b"\n",
            encode_request("two", ident=3),
        )
        assert answers[0]["result"] == {"asked": "one"}
        assert answers[1]["error"]["code"] == "bad-request"  # type: ignore[index]
        assert answers[2]["error"]["message"] == "it failed"  # type: ignore[index]
        assert answers[-1] == {"v": 1, "id": 3, "ok": True, "result": {"asked": "two"}}
        assert [answer["ok"] for answer in answers] == [True, False, False, False, True]

    serving(tmp_path, client)


def test_only_so_many_clients_are_served_at_once(tmp_path: Path) -> None:
    async def client(path: Path) -> None:
        held = [await asyncio.open_unix_connection(path) for _ in range(CLIENTS_AT_ONCE)]
        for reader, writer in held:
            writer.write(encode_request("one", ident=1))
            await reader.readline()
        (answer,) = await talk(path)
        assert answer["error"]["code"] == "try-again"  # type: ignore[index]
        for _, writer in held:
            writer.close()

    serving(tmp_path, client)


def test_the_command_line_gets_the_result(tmp_path: Path) -> None:
    async def client(path: Path) -> None:
        result = await asyncio.to_thread(ask, "status", path=path)
        assert result.string("asked") == "status"

    serving(tmp_path, client)


def test_the_socket_is_for_root_only(tmp_path: Path) -> None:
    async def client(path: Path) -> None:
        mode = (await asyncio.to_thread(path.stat)).st_mode
        assert mode & 0o777 == 0o600

    serving(tmp_path, client)


def test_a_group_may_use_the_socket_where_the_configuration_names_one(tmp_path: Path) -> None:
    async def run() -> tuple[int, int]:
        path = tmp_path / "control.sock"
        group = grp.getgrgid(os.getgid())
        control = ControlSocket(handler, path, group=group.gr_name)
        await control.start()
        status = await asyncio.to_thread(path.stat)
        await control.stop()
        return status.st_mode & 0o777, status.st_gid

    assert asyncio.run(run()) == (0o660, os.getgid())


def test_a_group_that_does_not_exist_is_an_error_that_names_it(tmp_path: Path) -> None:
    async def run() -> None:
        control = ControlSocket(handler, tmp_path / "control.sock", group="no-such-group")
        try:
            await control.start()
        finally:
            await control.stop()

    with pytest.raises(ConfigurationError, match="no-such-group"):
        asyncio.run(run())
