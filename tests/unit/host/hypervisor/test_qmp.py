"""A QMP peer that misbehaves ends in a clear error, in bounded time and memory."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from guestagent.errors import PeerError, UnknownOutcomeError
from guestagent.host.hypervisor.base import ConnectionLostError, GoneError
from guestagent.host.hypervisor.qmp.client import CommandRefusedError, Connection
from tests.fakes.qmp import FakeQemu, Fault

TIMEOUT_S = 20.0  # far away: a busy machine must change nothing


def talk(directory: Path, conversation: Callable[[FakeQemu, Connection], Awaitable[None]]) -> None:
    async def talk_it() -> None:
        path = directory / "q.sock"
        async with FakeQemu(path=path).serving() as qemu:
            connection = await Connection.open(path, origin="QEMU", timeout_s=TIMEOUT_S)
            async with connection:
                await conversation(qemu, connection)

    asyncio.run(talk_it())


def test_a_command_returns_its_value(tmp_path: Path) -> None:
    async def conversation(_qemu: FakeQemu, connection: Connection) -> None:
        reply = await connection.execute("query-status", timeout_s=TIMEOUT_S)
        assert reply.string("status") == "running"

    talk(tmp_path, conversation)


def test_a_refusal_carries_the_words_of_qemu(tmp_path: Path) -> None:
    async def conversation(_qemu: FakeQemu, connection: Connection) -> None:
        with pytest.raises(CommandRefusedError, match="QEMU refused device_del") as caught:
            await connection.execute("device_del", {"id": "vf9"}, timeout_s=TIMEOUT_S)
        assert caught.value.error_class == "DeviceNotFound"
        assert caught.value.reason == "Device 'vf9' not found"
        # The connection is as good as before.
        await connection.execute("query-status", timeout_s=TIMEOUT_S)

    talk(tmp_path, conversation)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault.HANG_UP_BEFORE, "the other end closed it"),
        (Fault.HANG_UP_AFTER, "the other end closed it"),
        (Fault.GARBAGE, "not QMP"),
        (Fault.NOT_UTF8, "not QMP"),
        (Fault.HUGE, "longer than 4 MiB"),
        (Fault.DEEP, "cannot be read"),
    ],
)
def test_a_lost_answer_is_an_unknown_outcome(tmp_path: Path, fault: Fault, message: str) -> None:
    async def conversation(qemu: FakeQemu, connection: Connection) -> None:
        qemu.faults = {"query-status": [fault]}
        with pytest.raises(ConnectionLostError, match=message):
            await connection.execute("query-status", timeout_s=TIMEOUT_S)
        assert connection.ended
        with pytest.raises(ConnectionLostError, match="before query-status"):
            await connection.execute("query-status", timeout_s=TIMEOUT_S)

    talk(tmp_path, conversation)


@pytest.mark.parametrize("cut_at", [0, 1, 10, 30, 60])
def test_an_answer_cut_at_any_byte_is_an_unknown_outcome(tmp_path: Path, cut_at: int) -> None:
    async def conversation(qemu: FakeQemu, connection: Connection) -> None:
        qemu.faults = {"query-status": [Fault.CUT]}
        qemu.cut_at = cut_at
        with pytest.raises(ConnectionLostError):
            await connection.execute("query-status", timeout_s=TIMEOUT_S)

    talk(tmp_path, conversation)


def test_silence_ends_at_the_deadline(tmp_path: Path) -> None:
    async def conversation(qemu: FakeQemu, connection: Connection) -> None:
        qemu.faults = {"query-status": [Fault.SILENT]}
        began_s = time.monotonic()
        with pytest.raises(UnknownOutcomeError, match=r"no answer to query-status within 0.05 s"):
            await connection.execute("query-status", timeout_s=0.05)
        assert time.monotonic() - began_s < 10.0
        assert connection.ended

    talk(tmp_path, conversation)


def test_answers_to_other_questions_are_passed_over(tmp_path: Path) -> None:
    async def conversation(qemu: FakeQemu, connection: Connection) -> None:
        qemu.faults = {"query-status": [Fault.OTHER_ID_FIRST]}
        reply = await connection.execute("query-status", timeout_s=TIMEOUT_S)
        assert reply.string("status") == "running"

    talk(tmp_path, conversation)


def test_an_answer_of_another_type_names_the_command(tmp_path: Path) -> None:
    async def conversation(qemu: FakeQemu, connection: Connection) -> None:
        qemu.faults = {"query-status": [Fault.WRONG_TYPE]}
        reply = await connection.execute("query-status", timeout_s=TIMEOUT_S)
        with pytest.raises(PeerError, match="query-status of QEMU: the value must be an object"):
            reply.string("status")

    talk(tmp_path, conversation)


# --- events ---------------------------------------------------------------------------------


def test_only_events_asked_for_arrive_and_with_both_times(tmp_path: Path) -> None:
    async def conversation(qemu: FakeQemu, connection: Connection) -> None:
        with connection.events("RESUME") as events:
            before_s = time.monotonic()
            qemu.event("STOP")
            qemu.event("RESUME", reason="x")
            event = await events.next(TIMEOUT_S)
            assert event is not None
            assert (event.name, event.data.string("reason")) == ("RESUME", "x")
            assert before_s - 0.001 <= event.at_s <= event.received_s <= time.monotonic()
            assert await events.next(0.0) is None

    talk(tmp_path, conversation)


def test_an_event_awaited_in_vain_is_none_at_the_deadline(tmp_path: Path) -> None:
    async def conversation(_qemu: FakeQemu, connection: Connection) -> None:
        with connection.events("STOP") as events:
            assert await events.next(0.02) is None

    talk(tmp_path, conversation)


def test_the_end_of_the_connection_ends_the_wait_for_an_event(tmp_path: Path) -> None:
    async def conversation(qemu: FakeQemu, connection: Connection) -> None:
        with connection.events("STOP") as events:
            qemu.event("STOP")
            waiting = asyncio.create_task(events.next(TIMEOUT_S))
            assert await waiting is not None
            asyncio.get_running_loop().call_soon(qemu.end)
            with pytest.raises(ConnectionLostError, match="while an event was awaited"):
                await asyncio.wait_for(events.next(20.0), 15.0)

    talk(tmp_path, conversation)


def test_a_flood_of_events_keeps_the_newest_in_bounded_memory(tmp_path: Path) -> None:
    async def conversation(qemu: FakeQemu, connection: Connection) -> None:
        with connection.events("STOP") as events:
            for number in range(2000):
                qemu.event("STOP", number=number)
            await connection.execute("query-status", timeout_s=TIMEOUT_S)
            kept = [event.data.integer("number") for event in events.drain()]
        assert kept == list(range(2000 - 256, 2000))

    talk(tmp_path, conversation)


# --- connecting -----------------------------------------------------------------------------


def test_a_socket_that_is_not_there_is_gone(tmp_path: Path) -> None:
    with pytest.raises(GoneError, match="nothing listens there"):
        asyncio.run(Connection.open(tmp_path / "none", origin="QEMU", timeout_s=TIMEOUT_S))


def test_a_socket_that_nobody_serves_is_gone(tmp_path: Path) -> None:
    async def scenario() -> None:
        server = await asyncio.start_unix_server(lambda _r, _w: None, tmp_path / "s")
        server.close()
        await server.wait_closed()
        await Connection.open(tmp_path / "s", origin="QEMU", timeout_s=TIMEOUT_S)

    with pytest.raises(GoneError):
        asyncio.run(scenario())


@pytest.mark.parametrize(
    ("greeting", "message"),
    [
        (b"", "did not greet within"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no QMP session"),
        (b'{"hello": 1}\r\n', "no QMP session"),
        (b"[]\r\n", "no QMP session"),
    ],
)
def test_a_socket_without_a_qemu_is_reported_as_such(
    tmp_path: Path, greeting: bytes, message: str
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await reader.read()
        writer.close()

    async def scenario() -> None:
        server = await asyncio.start_unix_server(serve, tmp_path / "s")
        async with server:
            timeout_s = TIMEOUT_S if greeting else 0.1  # it is over when something is said
            await Connection.open(tmp_path / "s", origin="QEMU", timeout_s=timeout_s)

    with pytest.raises(PeerError, match=message) as caught:
        asyncio.run(scenario())
    assert caught.value.hint


def test_a_peer_that_hangs_up_at_once_is_no_qemu(tmp_path: Path) -> None:
    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def scenario() -> None:
        async with await asyncio.start_unix_server(serve, tmp_path / "s"):
            await Connection.open(tmp_path / "s", origin="QEMU", timeout_s=TIMEOUT_S)

    with pytest.raises(PeerError, match="the other end closed it"):
        asyncio.run(scenario())


def test_requests_without_newlines_are_what_the_fake_must_take(tmp_path: Path) -> None:
    """The library sends none; two requests at once must be answered one by one."""

    async def scenario() -> None:
        async with FakeQemu(path=tmp_path / "q").serving():
            reader, writer = await asyncio.open_unix_connection(tmp_path / "q")
            await reader.readline()
            request = json.dumps({"execute": "query-status", "id": "1"})
            writer.write((request + request.replace('"1"', '"2"')).encode())
            answers = [json.loads(await reader.readline())["id"] for _ in range(2)]
            assert answers == ["1", "2"]
            writer.close()

    asyncio.run(scenario())
