"""Where the port to the host is looked for, and what is said when it may not be opened."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

import pytest

from guestagent.guest import channel
from guestagent.guest.channel import HostChannel
from guestagent.guest.kernel import serial
from guestagent.wire import Request


async def nobody(request: Request) -> Mapping[str, object]:
    """Answer nothing: no request comes."""
    raise AssertionError(request)


def test_the_system_s_devices_are_looked_at_before_the_private_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, private = tmp_path / "system", tmp_path / "private"
    monkeypatch.setattr(serial, "DEVICES", (system, private))
    assert serial.port_path() == private / "virtio-ports" / serial.NAME, "where it would be"
    for directory in (private, system):
        port = directory / "virtio-ports" / serial.NAME
        port.parent.mkdir(parents=True)
        port.touch()
        assert serial.port_path() == port


def test_a_port_that_may_not_be_opened_is_told_and_tried_again_when_devices_change(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = []

    def refused(path: Path) -> None:
        tries.append(path)
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(channel, "SerialPort", refused)

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
