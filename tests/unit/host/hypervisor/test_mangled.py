"""A QEMU, a qemu-ga and an agent whose bytes are cut, garbled, repeated, slow or endless.

Whatever comes, the answer is the truth or an error of ours, within bounded time and memory.
"""

from __future__ import annotations

import asyncio
import json
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guestagent.errors import PeerError, UnknownOutcomeError
from guestagent.host.hypervisor.guest.agent import GuestAgentClient, SerialTransport
from guestagent.host.hypervisor.guest.qga import QemuGuestAgent
from guestagent.host.hypervisor.qmp.qemu import Qemu
from guestagent.host.model import End, MigrationSettings, QemuState
from tests.fakes.guest import FakeChannel
from tests.fakes.mangle import Harm, Wire
from tests.fakes.qga import FakeGuestAgent
from tests.fakes.qmp import GREETING, FakeQemu

ANSWER_S = 0.05
"""How long each answer may take here; a busy machine makes more of them late, not wrong."""
ALL_S = 30.0
MOST_BYTES = 48 * 1024 * 1024
GREETED = len(json.dumps(GREETING)) + 2
TRUTH = frozenset({"vf0", "net0", "net1", "rp1", "rp2", "rp3", "rp4"})
FRAGMENTS = (
    b"\n",
    b"\0",
    b"\xff\xfe",
    b"{",
    b"}\r\n",
    b"[" * 2000,
    b'{"return": {}}\r\n',
    b'{"return": {}, "id": "__qmp#00001"}\r\n',
    b'{"return": {"status": "running"}, "id": "__qmp#00003"}\r\n',
    b'{"error": {"class": "GenericError", "desc": "no"}}\r\n',
    b'{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}\r\n',
    b'{"event": "STOP"}\r\n',
    b'{"event": 7, "timestamp": []}\r\n',
    b'{"event": "MIGRATION", "data": 3, "timestamp": {"seconds": -1, "microseconds": 0}}\r\n',
    b'{"v": 1, "id": null, "ok": true, "result": {}}\n',
    b'{"ok": "yes"}\n',
    b'{"QMP": {}}\r\n',
    b"NaN\r\n",
    b"1e999999\r\n",
    b"x" * 100_000,
)
HARMS = st.sampled_from([harm for harm in Harm if harm is not Harm.FLOOD])
PLACES = st.integers(min_value=0, max_value=1200)
BYTES = st.one_of(st.sampled_from(FRAGMENTS), st.binary(min_size=1, max_size=64))
Ask = Callable[[Path], Awaitable[object]]


async def ask_qemu(path: Path) -> object:
    """Look, and ask for most of what a migration asks for."""
    qemu = Qemu(path, End.SOURCE, timeout_s=ANSWER_S)
    try:
        view = await qemu.look()
        if view.unreachable is None:
            for request in (
                qemu.topology(),
                qemu.capabilities(),
                qemu.unplug("vf0", ANSWER_S),
                qemu.start_migration("unix:/nowhere", MigrationSettings()),
                qemu.wait_for_change(ANSWER_S),
                qemu.figures(),
            ):
                await _tried(request)
        return view
    finally:
        await qemu.close()


async def ask_qga(path: Path) -> object:
    """Ask for the interfaces."""
    return await _tried(QemuGuestAgent(path, timeout_s=ANSWER_S).interfaces())


async def ask_agent(path: Path) -> object:
    """Ask for a switch."""
    return await _tried(
        GuestAgentClient([SerialTransport(path)]).to_standby(("52:54:00:aa:00:01",), hold_s=9)
    )


async def _tried(request: Awaitable[object]) -> object:
    try:
        return await request
    except (PeerError, UnknownOutcomeError) as error:
        return error


def suffer(wire: Wire, peer: FakeQemu | FakeGuestAgent | FakeChannel, ask: Ask) -> object:
    """Ask over the wire and return what was answered; too much time or memory is a failure."""

    async def scenario() -> object:
        async with peer.serving(), wire.serving():
            return await ask(wire.path)

    begun_s = time.monotonic()
    tracemalloc.start()
    try:
        answer = asyncio.run(scenario())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.monotonic() - begun_s < ALL_S
    assert peak < MOST_BYTES
    assert not isinstance(answer, Exception) or str(answer)
    return answer


def qemu_at(path: Path) -> FakeQemu:
    """Return a QEMU whose guest has a VF."""
    return FakeQemu(path=path, devices={"vf0": {"driver": "e1000e", "bus": "rp2"}})


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bring the deadlines of the agent's channel near."""
    for name in ("CONNECT_TIMEOUT_S", "GREETING_TIMEOUT_S", "ANSWER_MARGIN_S", "START_MARGIN_S"):
        monkeypatch.setattr(f"guestagent.host.hypervisor.guest.agent.{name}", ANSWER_S)


@given(harm=HARMS, at=PLACES, data=BYTES)
@settings(max_examples=30, deadline=None)
def test_a_mangled_qemu_is_an_error_and_never_a_lie(harm: Harm, at: int, data: bytes) -> None:
    with TemporaryDirectory() as name:
        directory = Path(name)
        wire = Wire(path=directory / "w", peer=directory / "q", harm=harm, at=at, data=data)
        view = suffer(wire, qemu_at(directory / "q"), ask_qemu)
        assert isinstance(view, QemuState)
        if harm in {Harm.CUT, Harm.SILENCE, Harm.DRIP} and view.unreachable is None:
            assert (view.run_state, view.devices) == ("running", TRUTH)


def test_a_qemu_that_is_gone_at_any_byte_is_never_a_lie(tmp_path: Path) -> None:
    async def look_at_all() -> list[QemuState]:
        views = []
        async with qemu_at(tmp_path / "q").serving():
            for at in range(0, 1400, 7):
                wire = Wire(path=tmp_path / "w", peer=tmp_path / "q", harm=Harm.CUT, at=at)
                async with wire.serving():
                    qemu = Qemu(wire.path, End.SOURCE, timeout_s=ALL_S)
                    views.append(await qemu.look())
                    await qemu.close()
                wire.path.unlink(missing_ok=True)
        return views

    views = asyncio.run(look_at_all())
    lost = [view for view in views if view.unreachable is not None]
    assert 50 < len(lost) < len(views)
    assert all(f"at {tmp_path}" in str(view.unreachable) for view in lost), "it names the socket"
    assert {(v.run_state, v.devices) for v in views if v not in lost} == {("running", TRUTH)}


@given(harm=HARMS, at=st.integers(min_value=0, max_value=400), data=BYTES)
@settings(max_examples=20, deadline=None)
def test_a_mangled_qemu_ga_is_an_error(harm: Harm, at: int, data: bytes) -> None:
    with TemporaryDirectory() as name:
        directory = Path(name)
        wire = Wire(path=directory / "w", peer=directory / "g", harm=harm, at=at, data=data)
        suffer(wire, FakeGuestAgent(path=directory / "g"), ask_qga)


@given(harm=HARMS, at=st.integers(min_value=0, max_value=200), data=BYTES)
@settings(max_examples=20, deadline=None)
def test_a_mangled_agent_is_an_error(harm: Harm, at: int, data: bytes) -> None:
    with TemporaryDirectory() as name:
        directory = Path(name)
        wire = Wire(path=directory / "w", peer=directory / "a", harm=harm, at=at, data=data)
        suffer(wire, FakeChannel(directory / "a"), ask_agent)


@pytest.mark.parametrize("data", [b"x" * 4096, FRAGMENTS[10], b"\n", b"[" * 4096, b"{}\n"])
@pytest.mark.parametrize(
    ("kind", "at"), [("qmp", 0), ("qmp", GREETED), ("qmp", GREETED + 40), ("qga", 9), ("agent", 9)]
)
def test_an_endless_answer_is_ended(tmp_path: Path, kind: str, at: int, data: bytes) -> None:
    peers: dict[str, tuple[FakeQemu | FakeGuestAgent | FakeChannel, Ask]] = {
        "qmp": (qemu_at(tmp_path / "p"), ask_qemu),
        "qga": (FakeGuestAgent(path=tmp_path / "p"), ask_qga),
        "agent": (FakeChannel(tmp_path / "p"), ask_agent),
    }
    wire = Wire(path=tmp_path / "w", peer=tmp_path / "p", harm=Harm.FLOOD, at=at, data=data)
    answer = suffer(wire, *peers[kind])
    assert isinstance(answer, Exception) or (isinstance(answer, QemuState) and answer.unreachable)
