"""Status for an operator: at a glance, its changes, and the metrics."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from guestagent.errors import PeerError
from guestagent.guest.api import client
from guestagent.guest.api.client import NotRunningError
from guestagent.guest.cli.main import main
from guestagent.guest.core.pair import Pair, Role
from guestagent.guest.core.pairing import pair_up
from guestagent.guest.core.policy import Policy
from guestagent.guest.report.history import History
from guestagent.guest.report.metrics import METRICS, as_prometheus
from guestagent.guest.report.status import Counts, Status, status
from guestagent.guest.report.text import ansi, as_text
from guestagent.guest.report.watch import Watch
from guestagent.guest.service.requests import Requests
from guestagent.json_fields import Obj
from guestagent.protocol import Request
from tests.fakes.system import FakeSystem
from tests.unit.guest.service.test_requests import FakeAgent, agent, ask

__all__ = ["agent"]  # the fixture
MAC = "52:54:00:00:00:01"


@pytest.fixture
def system() -> FakeSystem:
    system = FakeSystem()
    system.kernel.plug("ens2", MAC, driver="virtio_net")
    system.kernel.plug("ens3", MAC)
    for _ in range(2):
        system.engine().converge()
        system.later(10)
    return system


def pairs(system: FakeSystem) -> tuple[Pair, ...]:
    return pair_up(system.engine().look().snapshot, Policy()).pairs


def report(system: FakeSystem, history: History | None = None, **counts: object) -> Status:
    outcome = system.engine().look()
    counted = Counts(history=history, **counts)  # type: ignore[arg-type]
    return status(outcome.snapshot, Policy(), outcome.plan, agent="running", counts=counted)


def test_history_counts_the_moves_and_knows_the_last(system: FakeSystem) -> None:
    now = [1000.0]
    history = History(lambda: now[0])
    assert history.note(pairs(system)) == (), "the first side is no switch"
    assert history.note(pairs(system)) == ()
    vf = system.kernel.named("ens3").ifindex
    now[0] = 2000.0
    system.kernel.set_carrier(vf, carrier=False)
    (moved,) = history.note(pairs(system))
    assert (moved.role, moved.pair.mac) == (Role.STANDBY, MAC)
    system.kernel.set_carrier(vf, carrier=True)
    (moved,) = history.note(pairs(system))
    assert moved.role is Role.VF
    assert (history.of(MAC).switches, history.of(MAC).switched_at_s) == (2, 2000.0)
    assert history.of("02:00:00:00:00:99").switches == 0


def test_a_bond_without_a_carrier_is_no_switch(system: FakeSystem) -> None:
    history = History(lambda: 0.0)
    history.note(pairs(system))
    for name in ("ens2", "ens3"):
        system.kernel.set_carrier(system.kernel.named(name).ifindex, carrier=False)
    assert history.note(pairs(system)) == ()
    for name in ("ens3", "ens2"):
        system.kernel.set_carrier(system.kernel.named(name).ifindex, carrier=True)
    assert history.note(pairs(system)) == ()


def test_the_text_shows_the_whole_status(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.localtime", lambda _: (2026, 1, 2, 3, 4, 5, 0, 0, 0))
    now = [0.0]
    history = History(lambda: now[0])
    history.note(pairs(system))
    vf = system.kernel.named("ens3").ifindex
    system.kernel.set_carrier(vf, carrier=False)
    history.note(pairs(system))
    shown = as_text(
        report(
            system,
            history,
            held_s={MAC: 90.0},
            announcements={"bond0": 12},
            lost_carrier={"ens2": 0, "ens3": 2}.get,
        )
    )
    assert shown.splitlines()[:4] == [
        f"bond0  {MAC}  on the standby: the VF has no carrier, for 90 s more at most",
        "    VF       ens3 (e1000e, 0000:00:03.0), no carrier, lost it 2 times, primary",
        "  → standby  ens2 (virtio_net, 0000:00:02.0), carrier",
        "    last switch 2026-01-02 03:04:05 (1 in all), 12 announcements sent",
    ]
    assert shown.endswith("agent       running since 2026-01-02 03:04:05")


def test_colour_adds_nothing_but_colour(system: FakeSystem) -> None:
    plain = as_text(report(system))
    coloured = as_text(report(system), ansi)
    assert "\x1b[32mon the VF\x1b[0m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == plain


def test_the_status_of_this_and_of_an_older_version_is_read(
    system: FakeSystem,
) -> None:
    history = History()
    history.note(pairs(system))
    given = replace(report(system, history, lost_carrier=lambda _: 3), revision=7)
    assert Status.from_json(Obj.parse(json.dumps(given.as_json()))) == given
    old = json.loads(json.dumps(report(system).as_json()))
    for key in ("agent_version", "started_at_s", "revision"):
        del old[key]
    for key in ("switches", "switched_at_s", "announcements"):
        del old["pairs"][0][key]
    del old["pairs"][0]["standby"]["lost_carrier"]
    assert Status.from_json(Obj.of(old)) == report(system)


# the wait for a change


def test_a_status_that_is_known_is_answered_when_something_has_changed(agent: FakeAgent) -> None:
    requests = Requests(agent)

    def revision(**arguments: object) -> object:
        request = Request(id=1, name="status", arguments=Obj(dict(arguments), "arguments"))
        return asyncio.run(requests(request))["revision"]

    first = revision()
    assert isinstance(first, int)
    assert revision() == first
    assert revision(after=first - 1) == first
    assert revision(after=first, timeout_s=0) == first, "the time was up"
    agent.system.kernel.set_carrier(agent.system.kernel.named("ens3").ifindex, carrier=False)
    assert revision(after=first) == first + 1


def test_the_revisions_of_one_agent_are_none_of_another(agent: FakeAgent) -> None:
    first = ask(agent, "status")["revision"]
    agent.history = History(lambda: agent.history.started_at_s + 1)
    assert ask(agent, "status")["revision"] > first


class Script:
    """An agent with prepared answers, followed by Ctrl-C."""

    def __init__(self, *answers: Status | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[Mapping[str, object] | None] = []
        self.shown: list[Status | str] = []
        self.slept: list[float] = []

    def ask(self, arguments: Mapping[str, object] | None) -> Status:
        self.asked.append(arguments)
        if not self.answers:
            raise KeyboardInterrupt
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def own(self, why: str) -> Status:
        self.shown.append(why)
        return replace(self.blank, agent=why)

    def watch(self, blank: Status) -> None:
        self.blank = blank
        Watch(ask=self.ask, own=self.own, show=self.shown.append, sleep=self.slept.append).run()


def test_the_watch_shows_changes_alone_and_never_polls(system: FakeSystem) -> None:
    seen = report(system)
    first, second = replace(seen, revision=5), replace(seen, revision=6, converged=False)
    script = Script(first, first, second)
    script.watch(seen)
    assert script.shown == [first, second]
    assert script.asked[0] is None
    assert [item["after"] for item in script.asked[1:] if item] == [5, 5, 6]
    assert script.slept == []


def test_the_watch_goes_on_when_the_agent_is_started_anew(system: FakeSystem) -> None:
    seen = report(system)
    first, again = replace(seen, revision=5), replace(seen, revision=5, converged=False)
    script = Script(first, PeerError("it ended"), NotRunningError("not running"), again)
    script.watch(seen)
    assert script.shown == [first, "it ended", replace(seen, agent="it ended"), again]
    assert script.asked[2:4] == [None, None], "nothing of the old agent's is asked of the new"
    assert script.slept == [1.0, 1.0]


def test_the_watch_redraws_a_hold_and_paces_an_agent_that_cannot_be_waited_for(
    system: FakeSystem,
) -> None:
    seen = report(system, held_s={MAC: 60.0})
    held = replace(seen, revision=5)
    script = Script(held, held)
    script.watch(seen)
    assert script.shown == [held, held]
    old = replace(report(system), revision=None)
    script = Script(old, old)
    script.watch(seen)
    assert len(script.slept) == 2


# metrics


def test_the_metrics_are_what_prometheus_reads(system: FakeSystem) -> None:
    history = History(lambda: 1700000000.5)
    history.note(pairs(system))
    lost = {"ens2": 0, "ens3": 2}.get
    text = as_prometheus(report(system, history, announcements={"bond0": 9}, lost_carrier=lost))
    labels = f'bond="bond0",mac="{MAC}"'
    for line in (
        "guestagent_up 1",
        "guestagent_start_time_seconds 1700000000.5",
        "guestagent_converged 1",
        f'guestagent_pair_active{{{labels},side="vf"}} 1',
        f'guestagent_pair_active{{{labels},side="standby"}} 0',
        f"guestagent_pair_announcements_total{{{labels}}} 9",
        f'guestagent_port_lost_carrier_total{{{labels},side="vf"}} 2',
    ):
        assert line in text.splitlines()
    sample = re.compile(r'[a-z_]+(\{([a-z]+="[^"]*",?)+\})? -?[\d.]+')
    names = []
    for line in text.splitlines():
        if line.startswith("# TYPE"):
            names.append(line.split()[2])
        elif not line.startswith("#"):
            assert sample.fullmatch(line), line
            assert line.startswith(names[-1]), "samples stand below their type"
    assert set(names) <= set(METRICS)


def test_without_an_agent_the_metrics_say_so(system: FakeSystem) -> None:
    text = as_prometheus(report(system))
    assert "guestagent_up 0" in text
    assert "switches" not in text


def test_the_metrics_file_is_replaced_as_a_whole(
    system: FakeSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Obj.of(json.loads(json.dumps(report(system, History()).as_json())))
    monkeypatch.setattr(client, "ask", lambda *_: answer)
    target = tmp_path / "guestagent.prom"
    assert main(["metrics", "--output", str(target)]) == 0
    assert "guestagent_up 1" in target.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["guestagent.prom"]
    assert main(["metrics", "--output", str(tmp_path / "none" / "x")]) == 1


def test_a_client_whose_agent_ends_gets_an_error(tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def hang_up() -> None:
        async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async with await asyncio.start_unix_server(close, path=path):
            await asyncio.to_thread(client.ask, "status", path=path)

    with pytest.raises(PeerError, match=r"did not answer|ended before it answered"):
        asyncio.run(hang_up())
