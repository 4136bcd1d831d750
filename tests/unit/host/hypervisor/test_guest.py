"""The ways to the agent in the guest: in order, bounded, and never trusted."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from guestagent.errors import GuestAgentError, PeerError, UnknownOutcomeError
from guestagent.host.hypervisor.base import RefusedError
from guestagent.host.hypervisor.guest.agent import (
    AgentTransport,
    GuestAgentClient,
    QgaExecTransport,
    SerialTransport,
)
from guestagent.host.hypervisor.guest.qga import QemuGuestAgent
from guestagent.protocol import MAX_LINE_BYTES
from tests.fakes.guest import Answer, FakeChannel, obedient, refusing
from tests.fakes.qga import FakeGuestAgent

MAC = "52:54:00:aa:00:01"


def talking(
    path: Path, answer: Answer, talk: Callable[[GuestAgentClient], Awaitable[None]]
) -> list[dict[str, Any]]:
    """Have a conversation over the channel; return what was asked."""

    async def run() -> list[dict[str, Any]]:
        async with FakeChannel(path / "agent.sock", answer).serving() as channel:
            await asyncio.wait_for(talk(GuestAgentClient([SerialTransport(channel.path)])), 10)
            return [item for item in channel.requests if item["request"] != "hello"]

    return asyncio.run(run())


async def to_standby(guest: GuestAgentClient) -> None:
    await guest.to_standby((MAC,), hold_s=60)


def test_a_switch_names_the_pair_and_how_long_it_holds(tmp_path: Path) -> None:
    (request,) = talking(tmp_path, obedient, to_standby)
    assert (request["v"], request["request"]) == (1, "switch")
    assert request["arguments"] == {"to": "standby", "bond": MAC, "hold_s": 60}


def test_coming_back_ends_the_hold_and_waits_for_the_vf(tmp_path: Path) -> None:
    requests = talking(tmp_path, obedient, lambda guest: guest.to_vf((MAC,), timeout_s=5))
    assert [item["request"] for item in requests] == ["switch", "wait"]
    assert requests[0]["arguments"] == {"to": "auto", "bond": MAC}
    assert requests[1]["arguments"]["active"] == "vf"
    assert 0 < requests[1]["arguments"]["timeout_s"] <= 5


def test_a_guest_that_knows_of_no_pair_yet_is_waited_for(tmp_path: Path) -> None:
    def answer(request: dict[str, Any]) -> bytes:
        return refusing(request) if request["request"] == "switch" else obedient(request)

    requests = talking(tmp_path, answer, lambda guest: guest.to_vf((MAC,), timeout_s=5))
    assert [item["request"] for item in requests] == ["switch", "wait"]


def test_a_refusal_is_shown_without_control_characters(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"no\?\[2J carrier"):
        talking(tmp_path, refusing, to_standby)


def test_answers_to_somebody_else_are_skipped(tmp_path: Path) -> None:
    stray = b'{"v":1,"id":"other","ok":false}\ngarbage\n\xff\n'
    assert talking(tmp_path, lambda request: stray + obedient(request), to_standby)


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: b"",
        lambda _: b"half an answer",
        lambda _: b"x" * (MAX_LINE_BYTES * 2) + b"\n",
        lambda _: b'{"v":1,"id":"other","ok":true}\n' * 1000,
        lambda request: json.dumps({"id": request["id"], "ok": "yes"}).encode() + b"\n",
        lambda request: json.dumps({"id": request["id"], "ok": False}).encode() + b"\n",
    ],
    ids=["hang-up", "half", "huge", "strangers", "no-boolean", "no-error"],
)
def test_an_answer_that_cannot_be_used_is_an_error_in_bounded_time(
    tmp_path: Path, answer: Answer
) -> None:
    def once(request: dict[str, Any]) -> bytes:
        return obedient(request) if request["request"] == "hello" else answer(request)

    async def run() -> None:
        async with FakeChannel(tmp_path / "agent.sock", once).serving() as channel:
            with pytest.raises((PeerError, UnknownOutcomeError)) as caught:
                await SerialTransport(channel.path).ask("switch", {}, 0.3)
            assert not isinstance(caught.value, RefusedError)

    asyncio.run(asyncio.wait_for(run(), 10))


def test_nothing_is_asked_of_an_agent_that_does_not_greet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guestagent.host.hypervisor.guest.agent.GREETING_TIMEOUT_S", 0.05)

    async def run() -> list[dict[str, Any]]:
        async with FakeChannel(tmp_path / "agent.sock", lambda _: b"\n").serving() as channel:
            with pytest.raises(UnknownOutcomeError, match="hello"):
                await SerialTransport(channel.path).ask("switch", {}, 5)
            return channel.requests

    assert [item["request"] for item in asyncio.run(run())] == ["hello"]


def test_a_channel_that_is_not_there_says_what_to_check(tmp_path: Path) -> None:
    with pytest.raises(PeerError) as caught:
        asyncio.run(SerialTransport(tmp_path / "absent").ask("switch", {}, 1))
    assert "org.guestagent.0" in (caught.value.hint or "")


def test_qemu_ga_is_asked_where_the_channel_is_silent(tmp_path: Path) -> None:
    async def run() -> list[dict[str, Any]]:
        qga = FakeGuestAgent(path=tmp_path / "qga.sock", program=_agent(b'"ok": true'))
        async with qga.serving():
            ways: list[AgentTransport] = [
                SerialTransport(tmp_path / "absent"),
                QgaExecTransport(QemuGuestAgent(qga.path, timeout_s=5)),
            ]
            await GuestAgentClient(ways).to_standby((MAC,), hold_s=60)
        return qga.executed

    (executed,) = asyncio.run(run())
    assert (executed["path"], executed["arg"]) == ("/usr/bin/guestagent", ["ask"])
    request = json.loads(base64.b64decode(executed["input-data"]))
    assert request["arguments"] == {"to": "standby", "bond": MAC, "hold_s": 60}


@pytest.mark.parametrize(
    ("output", "error"),
    [
        (b'"ok": false, "error": {"message": "no carrier"}', RefusedError),
        (b'"ok": 5', PeerError),
        (None, PeerError),
    ],
)
def test_the_output_of_guest_exec_is_checked_like_any_answer(
    tmp_path: Path, output: bytes | None, error: type[GuestAgentError]
) -> None:
    async def run() -> None:
        qga = FakeGuestAgent(path=tmp_path / "qga.sock", program=_agent(output))
        async with qga.serving():
            await QgaExecTransport(QemuGuestAgent(qga.path, timeout_s=5)).ask("switch", {}, 5)

    with pytest.raises(error):
        asyncio.run(run())


def nic(name: str, *addresses: str) -> dict[str, Any]:
    """Return an interface as qemu-ga lists it."""
    listed = [{"ip-address": a, "ip-address-type": "ipv4", "prefix": 24} for a in addresses]
    return {"name": name, "hardware-address": MAC.upper(), "ip-addresses": listed}


def error_without_agent(
    path: Path, qga: FakeGuestAgent, talk: Callable[[GuestAgentClient], Awaitable[None]]
) -> str:
    """Talk to a guest that has no channel; return what the error says."""

    async def run() -> str:
        async with qga.serving():
            qga_fallback = QemuGuestAgent(qga.path, timeout_s=5)
            ways: list[AgentTransport] = [
                SerialTransport(path / "absent"),
                QgaExecTransport(qga_fallback),
            ]
            with pytest.raises(PeerError) as caught:
                await talk(GuestAgentClient(ways, qga_fallback=qga_fallback))
            assert not isinstance(caught.value, RefusedError)
            return str(caught.value)

    return asyncio.run(asyncio.wait_for(run(), 20))


def test_where_guest_exec_is_blocked_qemu_ga_tells_what_the_guest_has(tmp_path: Path) -> None:
    interfaces = [{"name": "lo"}, nic("bond0", "198.18.0.10"), nic("enp1s0")]
    qga = FakeGuestAgent(path=tmp_path / "qga.sock", interfaces=interfaces)
    message = error_without_agent(tmp_path, qga, to_standby)
    assert "guest-exec has been disabled" in message
    assert f"the guest has bond0 (198.18.0.10/24), enp1s0 with {MAC}" in message


def test_a_vf_that_was_plugged_is_given_time_to_be_listed(tmp_path: Path) -> None:
    qga = FakeGuestAgent(path=tmp_path / "qga.sock")

    def listed() -> list[dict[str, Any]]:
        return [nic("bond0"), nic("enp1s0"), *([nic("enp2s0")] if qga.listed > 1 else [])]

    qga.interfaces = listed
    message = error_without_agent(tmp_path, qga, lambda guest: guest.to_vf((MAC,), timeout_s=5))
    assert "bond0, enp1s0, enp2s0 with" in message
    assert qga.listed == 2


def test_a_guest_cannot_make_the_list_endless(tmp_path: Path) -> None:
    many = [nic(f"n{number}" + "\x1b" * 1000, *["198.18.0.1"] * 50) for number in range(100)]
    qga = FakeGuestAgent(path=tmp_path / "qga.sock", interfaces=many)
    message = error_without_agent(tmp_path, qga, to_standby)
    assert "and 92 more" in message
    assert message.isprintable()
    assert len(message) < 5000


def test_a_silent_qemu_ga_adds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guestagent.host.hypervisor.guest.agent.LISTING_TIMEOUT_S", 0.1)

    async def run() -> str:
        async with FakeGuestAgent(path=tmp_path / "qga.sock", silent=True).serving():
            qga_fallback = QemuGuestAgent(tmp_path / "qga.sock", timeout_s=0.1)
            with pytest.raises(PeerError) as caught:
                await GuestAgentClient(
                    [QgaExecTransport(qga_fallback)], qga_fallback=qga_fallback
                ).to_standby((MAC,), hold_s=1)
            return str(caught.value)

    assert "by qemu-ga" not in asyncio.run(run())


def _agent(output: bytes | None) -> str:
    """Return the output of ``guestagent ask``, as qemu-ga encodes it."""
    line = b"" if output is None else b'{"v": 1, "id": "switch", ' + output + b"}\n"
    return base64.b64encode(line).decode()
