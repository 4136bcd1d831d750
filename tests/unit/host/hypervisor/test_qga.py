"""qemu-ga is asked a question and not believed beyond bounds."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from guestagent.errors import PeerError, UnknownOutcomeError
from guestagent.host.hypervisor.base import GoneError
from guestagent.host.hypervisor.guest.qga import QemuGuestAgent
from guestagent.host.model import GuestInterface
from tests.fakes.qga import FakeGuestAgent


def ask(fake: FakeGuestAgent, *, timeout_s: float = 20.0) -> tuple[GuestInterface, ...]:
    async def ask_it() -> tuple[GuestInterface, ...]:
        async with fake.serving():
            return await QemuGuestAgent(fake.path, timeout_s=timeout_s).interfaces()

    return asyncio.run(ask_it())


def test_interfaces_are_read(tmp_path: Path) -> None:
    assert ask(FakeGuestAgent(path=tmp_path / "g")) == (
        GuestInterface(
            name="bond0", mac="52:54:00:aa:00:01", addresses=("198.18.0.10/24", "fe80::1/64")
        ),
        GuestInterface(name="sit0", mac=None, addresses=()),
    )


def test_an_answer_to_an_earlier_question_is_passed_over(tmp_path: Path) -> None:
    stale: list[dict[str, Any]] = [
        {"id": "__qmp#00000", "return": 4711},
        {"id": "__qmp#00007", "return": []},
    ]
    assert len(ask(FakeGuestAgent(path=tmp_path / "g", stale=stale))) == 2


def test_a_silent_guest_ends_at_the_deadline(tmp_path: Path) -> None:
    with pytest.raises(UnknownOutcomeError, match="no answer to guest-sync"):
        ask(FakeGuestAgent(path=tmp_path / "g", silent=True), timeout_s=0.1)


def test_a_guest_without_the_agents_port_is_gone(tmp_path: Path) -> None:
    with pytest.raises(GoneError):
        asyncio.run(QemuGuestAgent(tmp_path / "g", timeout_s=0.2).interfaces())


def test_many_interfaces_are_cut_off(tmp_path: Path) -> None:
    many = [{"name": f"eth{number}"} for number in range(5000)]
    assert len(ask(FakeGuestAgent(path=tmp_path / "g", interfaces=many))) == 256


def test_a_name_cannot_write_on_the_terminal(tmp_path: Path) -> None:
    evil = [{"name": "\x1b[2J" + "x" * 9000, "hardware-address": "\x07"}]
    (interface,) = ask(FakeGuestAgent(path=tmp_path / "g", interfaces=evil))
    assert interface.name.isprintable()
    assert len(interface.name) <= 200
    assert interface.mac == "?"


@pytest.mark.parametrize(
    "interfaces",
    [None, 7, {"name": "x"}, [7], [{}], [{"name": 7}], [{"name": "x", "ip-addresses": 7}]],
)
def test_nonsense_is_an_error(tmp_path: Path, interfaces: object) -> None:
    with pytest.raises(PeerError):
        ask(FakeGuestAgent(path=tmp_path / "g", interfaces=interfaces))


@pytest.mark.parametrize(
    "raw", [b"\xff\xff\n", b"x" * 5 * 2**20, b'{"return":' + b"[" * 100_000 + b"\n"]
)
def test_garbage_is_an_error_at_once(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises((PeerError, UnknownOutcomeError)):
        ask(FakeGuestAgent(path=tmp_path / "g", raw=raw))


def test_an_answer_to_nothing_is_none(tmp_path: Path) -> None:
    with pytest.raises(UnknownOutcomeError, match="no answer to guest-network-get-interfaces"):
        ask(FakeGuestAgent(path=tmp_path / "g", raw=b"{}\n"), timeout_s=0.3)
