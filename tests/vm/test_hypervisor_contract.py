"""A real QEMU does what the fake one claims; see ``tests/contract/hypervisor.py``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from guestagent.host.hypervisor.base import RefusedError
from guestagent.host.hypervisor.qmp.qemu import Qemu
from guestagent.host.model import End
from tests.contract.hypervisor import CLAIMS, TIMEOUT_S, VF, Both
from tests.vm.bare import bare_qemu


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_real_qemu(claim: str, tmp_path: Path) -> None:
    async def hold() -> None:
        both = Both(
            source=Qemu(tmp_path / "a", End.SOURCE, timeout_s=TIMEOUT_S),
            destination=Qemu(tmp_path / "b", End.DESTINATION, timeout_s=TIMEOUT_S),
            uri=f"unix:{tmp_path / 'migration'}",
        )
        try:
            await CLAIMS[claim](both)
        finally:
            await both.source.close()
            await both.destination.close()

    with bare_qemu(tmp_path / "a"), bare_qemu(tmp_path / "b", incoming=True):
        asyncio.run(hold())


def test_a_guest_that_never_answers_keeps_its_device(tmp_path: Path) -> None:
    async def scenario() -> None:
        qemu = Qemu(tmp_path / "a", End.SOURCE, timeout_s=TIMEOUT_S)
        try:
            await qemu.plug(VF, TIMEOUT_S)
            for _ in range(2):
                with pytest.raises(RefusedError, match="did not release vf0 within"):
                    await qemu.unplug(VF.id, 0.3)
            assert VF.id in (await qemu.look()).devices
        finally:
            await qemu.close()

    with bare_qemu(tmp_path / "a", releases=False):
        asyncio.run(scenario())


def test_a_qemu_that_is_killed_is_gone(tmp_path: Path) -> None:
    async def scenario() -> None:
        qemu = Qemu(tmp_path / "a", End.SOURCE, timeout_s=TIMEOUT_S)
        with bare_qemu(tmp_path / "a") as process:
            assert (await qemu.look()).running
            process.kill()
            process.wait()
            view = await qemu.look()
        assert view.gone
        assert not view.running
        await qemu.close()

    asyncio.run(scenario())


def test_a_second_client_is_told_that_qemu_takes_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = Qemu(tmp_path / "a", End.SOURCE, timeout_s=TIMEOUT_S)
        second = Qemu(tmp_path / "a", End.SOURCE, timeout_s=0.3)
        third = Qemu(tmp_path / "a", End.SOURCE, timeout_s=TIMEOUT_S)
        assert (await first.look()).running
        view = await second.look()
        assert view.unreachable is not None
        assert "did not greet" in view.unreachable
        assert not view.gone
        await second.close()
        await first.close()
        assert (await third.look()).running
        await third.close()

    with bare_qemu(tmp_path / "a"):
        asyncio.run(scenario())
