"""The port to the host: its path, its hosts, and a port that cannot be opened."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Self

import pytest

from guestagent.guest.api import serial_port, virtio_serial
from guestagent.guest.api.virtio_serial import HostChannel
from guestagent.protocol import Request, encode_request, parse_object


async def nobody(request: Request) -> Mapping[str, object]:
    """Answer nothing: no request comes."""
    raise AssertionError(request)


def test_the_system_s_devices_are_looked_at_before_the_private_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, private = tmp_path / "system", tmp_path / "private"
    monkeypatch.setattr(serial_port, "DEVICES", (system, private))
    assert serial_port.port_path() == private / "virtio-ports" / serial_port.NAME, (
        "where it would be"
    )
    for directory in (private, system):
        port = directory / "virtio-ports" / serial_port.NAME
        port.parent.mkdir(parents=True)
        port.touch()
        assert serial_port.port_path() == port


def test_a_port_that_cannot_be_opened_is_logged_and_tried_again_when_devices_change(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = []

    def refused(path: Path) -> None:
        tries.append(path)
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(virtio_serial, "SerialPort", refused)

    async def story() -> None:
        it = HostChannel(nobody, lambda: Path("/port"))
        task = asyncio.create_task(it.run())
        while len(tries) < 2:
            it.device_changed()
            await asyncio.sleep(0)
        task.cancel()

    with caplog.at_level(logging.WARNING):
        asyncio.run(asyncio.wait_for(story(), 10))
    assert "systemctl restart guestagent" in caplog.text
    assert "/port" in caplog.text


class Port:
    """A port to which one host after the other connects, each with a line, and leaves."""

    def __init__(self, *lines: bytes) -> None:
        self._lines = list(lines)
        self._leaves = asyncio.Event()
        self._answers: asyncio.Queue[bytes] = asyncio.Queue()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        self._leaves.clear()
        if self._lines:
            yield self._lines.pop(0)
        await self._leaves.wait()

    def leave(self) -> None:
        self._leaves.set()

    async def left(self) -> None:
        await self._leaves.wait()

    async def send(self, data: bytes) -> None:
        self._answers.put_nowait(data)

    async def answered(self) -> object:
        """Return the id of the next answer."""
        return parse_object(await self._answers.get()).value["id"]


def test_a_pending_request_of_a_host_that_left_does_not_delay_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = Port(encode_request("wait", ident=1), encode_request("hello", ident=2))
    monkeypatch.setattr(virtio_serial, "SerialPort", lambda _: port)
    monkeypatch.setattr(virtio_serial, "UNFINISHED_S", 0.0)
    waiting = asyncio.Event()

    async def handler(request: Request) -> Mapping[str, object]:
        if request.name == "wait":
            waiting.set()
            await asyncio.Event().wait()
        return {"agent": "guestagent"}

    async def story() -> None:
        task = asyncio.create_task(HostChannel(handler, lambda: Path("/port")).run())
        await waiting.wait()
        port.leave()
        assert await port.answered() == 2
        task.cancel()

    asyncio.run(asyncio.wait_for(story(), 10))


def test_an_unfinished_answer_to_a_host_that_left_does_not_reach_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = Port(encode_request("hello", ident=1), encode_request("hello", ident=2))
    monkeypatch.setattr(virtio_serial, "SerialPort", lambda _: port)

    async def handler(request: Request) -> Mapping[str, object]:
        return {"agent": "guestagent"}

    async def story() -> None:
        task = asyncio.create_task(HostChannel(handler, lambda: Path("/port")).run())
        for served in (1, 2):
            assert await port.answered() == served
            port.leave()
        assert not task.done()
        task.cancel()

    asyncio.run(asyncio.wait_for(story(), 10))
