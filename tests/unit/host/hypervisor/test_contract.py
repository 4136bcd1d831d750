"""The fake QEMU does what a real one does; ``tests/vm`` holds the real one to the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from guestagent.host.hypervisor.qmp.qemu import Qemu
from guestagent.host.model import End
from tests.contract.hypervisor import CLAIMS, TIMEOUT_S, Both
from tests.unit.host.support import world


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_fake_qemu(claim: str, tmp_path: Path) -> None:
    async def hold() -> None:
        async with world(tmp_path) as stage:
            stage.source.devices.clear()
            both = Both(
                source=Qemu(stage.source.path, End.SOURCE, timeout_s=TIMEOUT_S),
                destination=Qemu(stage.destination.path, End.DESTINATION, timeout_s=TIMEOUT_S),
                uri="unix:/nobody",
            )
            try:
                await CLAIMS[claim](both)
            finally:
                await both.source.close()
                await both.destination.close()

    asyncio.run(hold())
