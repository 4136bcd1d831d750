"""Requests to the running agent: what is answered, and that nothing half-done stays."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from guestagent.errors import ConflictError, DeadlineError, GuestAgentError
from guestagent.guest.core.pair import Pair
from guestagent.guest.core.policy import Policy
from guestagent.guest.reconcile.engine import ConvergeResult
from guestagent.guest.reconcile.observe import DRAIN_S
from guestagent.guest.report.history import History
from guestagent.guest.service.agent import Agent
from guestagent.guest.service.path_monitor import PathMonitor
from guestagent.guest.service.requests import Requests
from guestagent.guest.state.holds import DEFAULT_HOLD_S, Holds
from guestagent.json_fields import Obj
from guestagent.protocol import Request
from tests.fakes.paths import watch
from tests.fakes.system import FakeSystem, FakeUndone

MAC = "52:54:00:00:00:01"


@dataclass
class FakeAgent(Agent):
    """The daemon without its loop: an engine on a guest in memory."""

    system: FakeSystem
    holds: Holds
    policy: Policy = field(default_factory=Policy)
    paths: PathMonitor = field(default_factory=lambda: watch(lambda: 0.0))
    undone: FakeUndone = field(init=False)
    history: History = field(default_factory=History)
    announced_macs: list[str] = field(default_factory=list)
    announced: dict[str, int] = field(default_factory=dict)
    polls: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.undone = self.system.undone

    async def latest(self) -> ConvergeResult:
        return self.system.engine().look(self.holds.current())

    async def converge(self) -> ConvergeResult:
        return self.system.engine().converge(self.holds.current())

    def next_result(self) -> asyncio.Future[ConvergeResult]:
        """Return the next result: with an advancing clock an undo ends, a switch never does."""
        future: asyncio.Future[ConvergeResult] = asyncio.get_running_loop().create_future()
        if self.undone.macs:
            self.system.later(DRAIN_S)
            future.set_result(self.system.engine().converge())
        return future

    async def tx_backlog(self, ifindexes: frozenset[int]) -> int:
        """Return the packets that are queued on the VF, fewer at each poll."""
        left = self.system.engine().tx_backlog(ifindexes)
        self.polls.append(left)
        for ifindex in ifindexes & self.system.kernel.tx_backlogs.keys():
            self.system.kernel.tx_backlogs[ifindex] -= 1
        return left

    async def announce(self, pairs: tuple[Pair, ...]) -> int:
        self.announced_macs.extend(pair.mac for pair in pairs)
        return 3


@pytest.fixture
def agent(tmp_path: Path) -> FakeAgent:
    system = FakeSystem()
    system.kernel.plug("ens2", MAC, driver="virtio_net")
    system.kernel.plug("ens3", MAC)
    system.engine().converge()
    return FakeAgent(system=system, holds=Holds(tmp_path, lambda: system.now_s))


def ask(agent: FakeAgent, name: str, **arguments: object) -> Mapping[str, Any]:
    request = Request(id=1, name=name, arguments=Obj(dict(arguments), "arguments"))
    return asyncio.run(Requests(agent)(request))


def active(agent: FakeAgent) -> str | None:
    state = agent.system.kernel.named("bond0").bond
    link = next(
        (n for n in agent.system.kernel.links() if state and n.ifindex == state.active), None
    )
    return link.name if link else None


def test_switching_to_the_standby_holds_the_pair_and_says_what_was_seen(agent: FakeAgent) -> None:
    answer = ask(agent, "switch", to="standby")
    assert active(agent) == "ens2"
    assert [pair["active"] for pair in answer["pairs"]] == ["standby"]
    assert answer["pairs"][0]["held_s"] == DEFAULT_HOLD_S


def test_a_switch_to_the_standby_is_answered_once_the_vf_has_no_backlog(
    agent: FakeAgent,
) -> None:
    agent.system.kernel.tx_backlogs[agent.system.kernel.named("ens3").ifindex] = 3
    ask(agent, "switch", to="standby")
    assert agent.polls == [3, 2, 1, 0]


def test_a_vf_that_has_stopped_transmitting_does_not_delay_the_switch_for_ever(
    agent: FakeAgent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("guestagent.guest.service.requests.DRAIN_TIMEOUT_S", 0.0)
    agent.system.kernel.tx_backlogs[agent.system.kernel.named("ens3").ifindex] = 1_000_000
    answer = ask(agent, "switch", to="standby")
    assert [pair["active"] for pair in answer["pairs"]] == ["standby"]
    assert "does not transmit" in caplog.text


@pytest.mark.parametrize("back", ["vf", "auto"])
def test_switching_back_ends_the_hold(agent: FakeAgent, back: str) -> None:
    ask(agent, "switch", to="standby")
    ask(agent, "switch", to=back)
    assert active(agent) == "ens3"
    assert agent.holds.current() == frozenset()


def test_asking_for_the_vf_fails_where_there_is_none(agent: FakeAgent) -> None:
    agent.system.kernel.unplug(agent.system.kernel.named("ens3").ifindex)
    with pytest.raises(ConflictError, match="no VF"):
        ask(agent, "switch", to="vf")


def test_without_a_carrier_on_the_standby_nothing_is_changed(agent: FakeAgent) -> None:
    agent.system.kernel.set_carrier(agent.system.kernel.named("ens2").ifindex, carrier=False)
    with pytest.raises(ConflictError, match="no carrier"):
        ask(agent, "switch", to="standby")
    assert active(agent) == "ens3"
    assert agent.holds.current() == frozenset()


def test_a_switch_that_the_kernel_refuses_leaves_no_hold(agent: FakeAgent) -> None:
    agent.system.kernel.refuse("set_primary", 22)
    with pytest.raises(GuestAgentError):
        ask(agent, "switch", to="standby")
    assert active(agent) == "ens3"
    assert agent.holds.current() == frozenset()


def test_a_failure_of_one_pair_prevents_no_switch_of_another(agent: FakeAgent) -> None:
    other = "52:54:00:00:00:00"
    agent.system.kernel.plug("ens8", other, driver="virtio_net")
    agent.system.kernel.plug("ens9", other)
    agent.system.kernel.refuse("create_bond", 22)
    answer = ask(agent, "switch", to="standby", bond="bond0")
    assert active(agent) == "ens2"
    assert [pair["mac"] for pair in answer["pairs"]] == [MAC]
    assert agent.holds.current() == {MAC}


@pytest.mark.parametrize("to", ["standby", "auto"])
def test_a_hold_that_cannot_be_written_is_answered_with_the_reason(
    agent: FakeAgent, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(agent, "switch", to="standby")

    def full(path: Path, content: str, *, mode: int = 0) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("guestagent.guest.state.atomic_file.write_whole", full)
    with pytest.raises(GuestAgentError, match="No space left on device") as caught:
        ask(agent, "switch", to=to)
    assert "/run" in (caught.value.hint or "")


def test_a_failed_renewal_keeps_the_hold_that_was_there(agent: FakeAgent) -> None:
    ask(agent, "switch", to="standby", hold_s=60)
    agent.system.kernel.set_carrier(agent.system.kernel.named("ens2").ifindex, carrier=False)
    with pytest.raises(ConflictError):
        ask(agent, "switch", to="standby", hold_s=90)
    assert agent.holds.remaining_s(MAC) == 60


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("dance", {}, "unknown request"),
        ("switch", {}, "to must be a string"),
        ("switch", {"to": "mars"}, "'mars'"),
        ("switch", {"to": "standby", "hold_s": 0}, "hold_s is 0"),
        ("switch", {"to": "standby", "hold_s": 1e9}, "hold_s"),
        ("switch", {"to": "standby", "hold_s": "long"}, "hold_s must be a number"),
        ("switch", {"to": "standby", "bond": "bond9"}, "no pair 'bond9'"),
        ("wait", {"active": "up"}, "'up'"),
        ("wait", {"active": "vf", "timeout_s": -1}, "timeout_s"),
    ],
)
def test_a_bad_request_is_refused_with_the_reason(
    agent: FakeAgent, name: str, arguments: dict[str, object], says: str
) -> None:
    with pytest.raises(GuestAgentError, match=says) as caught:
        ask(agent, name, **arguments)
    assert caught.value.hint
    assert active(agent) == "ens3"


def test_a_wait_returns_at_once_in_the_wanted_state_and_else_with_the_reason(
    agent: FakeAgent,
) -> None:
    assert ask(agent, "wait", active="vf")["pairs"][0]["bond"] == "bond0"
    with pytest.raises(DeadlineError, match="on the VF"):
        ask(agent, "wait", active="standby", timeout_s=0)


def test_waiting_for_a_vf_that_was_just_plugged_waits_for_its_pair(tmp_path: Path) -> None:
    agent = FakeAgent(system=FakeSystem(), holds=Holds(tmp_path, lambda: 0.0))
    agent.system.kernel.plug("ens2", MAC, driver="virtio_net")
    with pytest.raises(ConflictError, match="no pair"):
        ask(agent, "wait", active="vf", bond=MAC, timeout_s=0)

    def found() -> asyncio.Future[ConvergeResult]:
        future: asyncio.Future[ConvergeResult] = asyncio.get_running_loop().create_future()
        agent.system.kernel.plug("ens3", MAC)
        future.set_result(agent.system.engine().converge())
        return future

    agent.next_result = found  # type: ignore[method-assign]
    (pair,) = ask(agent, "wait", active="vf", bond=MAC, timeout_s=5)["pairs"]
    assert (pair["mac"], pair["active"]) == (MAC, "vf")


def test_a_pair_can_be_named_by_bond_or_by_mac(agent: FakeAgent) -> None:
    for name in ("bond0", MAC):
        ask(agent, "announce", bond=name)
    assert agent.announced_macs == [MAC, MAC]


def test_a_request_to_a_guest_without_a_pair_is_refused(tmp_path: Path) -> None:
    agent = FakeAgent(system=FakeSystem(), holds=Holds(tmp_path, lambda: 0.0))
    with pytest.raises(ConflictError, match="no pair"):
        ask(agent, "switch", to="standby")
    assert ask(agent, "status")["pairs"] == ()


def test_undo_answers_when_the_bond_is_gone_and_adopt_when_it_is_back(agent: FakeAgent) -> None:
    answer = ask(agent, "undo")
    (pair,) = answer["released"]
    assert pair == {"mac": MAC, "bond": "bond0", "nics": ["ens2", "ens3"]}
    assert {link.name for link in agent.system.kernel.links()} == {"ens2", "ens3"}
    assert ask(agent, "undo")["released"] == [{**pair, "bond": None}], "repeating it is fine"
    (back,) = ask(agent, "adopt", bond="bond0")["pairs"]
    assert (back["bond"], back["active"]) == ("bond0", "vf")
    assert agent.undone.macs == set()


def test_undo_of_a_bond_that_something_uses_changes_nothing(agent: FakeAgent) -> None:
    bond = agent.system.kernel.named("bond0").ifindex
    agent.system.kernel.add_virtual("bond0.5", MAC, "vlan", lower=bond)
    with pytest.raises(ConflictError, match=r"bond0\.5 uses bond0"):
        ask(agent, "undo")
    assert agent.undone.macs == set()
    assert active(agent) == "ens3"


@pytest.mark.parametrize("request_name", ["undo", "adopt"])
def test_an_unknown_name_is_refused(agent: FakeAgent, request_name: str) -> None:
    with pytest.raises(ConflictError, match="bond7"):
        ask(agent, request_name, bond="bond7")
    assert active(agent) == "ens3"
