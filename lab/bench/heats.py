"""One round of one method: a guest is thawed, something is done to it, figures come back.

What is lost is looked at from ``LEAD_S`` before a thing is done, for what was under way then, to
the beginning of the next.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from guestagent.errors import PeerError
from lab.bench.contestant import Contestant
from lab.bench.figures import Round, active_ms, cut, lost_between
from lab.bench.methods import HOT_PLUG, ON_AGENT, Method, Scenario
from lab.machine.machine import Frozen, Machine
from lab.migration import host_helper
from lab.migration.phases import ROUND_TRIP_S
from lab.network.wires import Network
from lab.probe.accounting import Pause
from lab.probe.probe import Probe, Result

LEAD_S = 0.1
CALM_S = 1.0
SETTLE_S = 1.5

_AGENT_RUNS = (
    'until [ "$(systemctl show --property=ActiveState,SubState --value guestagent | xargs)" = '
    "'active running' ]; do sleep 0.2; done"
)
_ON_AGENT = {
    Scenario.KILLED: "systemctl kill --signal=KILL guestagent",
    Scenario.RESTARTED: "systemctl restart guestagent",
    Scenario.UPGRADED: "dpkg --install /run/newer.deb",
}
Figures = Iterator[tuple[Scenario, Round]]


class Heats:
    """Runs the rounds of one method, each in a guest of its own."""

    def __init__(
        self, method: Method, frozen: Frozen, *, network: Network, logs: Path, rate_hz: float
    ) -> None:
        self._method = method
        self._frozen = frozen
        self._network = network
        self._logs = logs
        self._rate_hz = rate_hz

    def run(self, wanted: tuple[Scenario, ...], number: int) -> Figures:
        """Run the wanted scenarios once and yield their figures as they come."""
        logs = self._logs / f"round-{number}"
        if set(wanted) & set(HOT_PLUG):
            yield from self._hot_plug(wanted, logs / "hot-plug")
        if Scenario.ADOPT in wanted:
            yield from self._adopt(logs / "adopt")
        if set(wanted) & set(ON_AGENT):
            yield from self._on_agent(wanted, logs / "agent")
        if Scenario.MIGRATE in wanted:
            yield from self._migrate(logs / "migrate")

    def _thaw(self, logs: Path) -> Machine:
        return Machine.thaw(self._frozen, network=self._network, logs=logs)

    def _probe(self) -> Probe:
        return Probe(self._network, rate_hz=self._rate_hz)

    def _hot_plug(self, wanted: tuple[Scenario, ...], logs: Path) -> Figures:
        with self._thaw(logs) as machine:
            guest = Contestant(self._method, machine)
            guest.begin()
            if {Scenario.UNPLUG, Scenario.REPLUG} & set(wanted):
                yield from _picked(wanted, self._cycle(guest, logs))
            if Scenario.APPEAR in wanted:
                guest.unplug()
                yield Scenario.APPEAR, Round(appear_ms=guest.appear_ms(logs / "links.txt"))

    def _cycle(self, guest: Contestant, logs: Path) -> Figures:
        with self._probe() as probe:
            probe.start(guest.machine)
            time.sleep(CALM_S)
            unplug_s = time.monotonic() - LEAD_S
            guest.unplug()
            time.sleep(SETTLE_S)
            replug_s = time.monotonic() - LEAD_S
            plugged_s = guest.plug()
            guest.wait_active()
            time.sleep(SETTLE_S)
            result = _ended(probe, guest.machine, logs)
        before = _lost_before(result, unplug_s)
        yield Scenario.UNPLUG, Round(flows=cut(result, unplug_s, replug_s), lost_before=before)
        yield (
            Scenario.REPLUG,
            Round(
                flows=cut(result, replug_s, result.end_s),
                active_ms=active_ms(result, plugged_s),
            ),
        )

    def _adopt(self, logs: Path) -> Figures:
        with self._thaw(logs) as machine, self._probe() as probe:
            probe.start(machine)
            time.sleep(CALM_S)
            plugged_s = time.monotonic()
            guest = Contestant(self._method, machine)
            machine.plug_vf()
            guest.wait_active()
            time.sleep(SETTLE_S)
            result = _ended(probe, machine, logs)
        yield (
            Scenario.ADOPT,
            Round(
                flows=cut(result, plugged_s - LEAD_S, result.end_s),
                active_ms=active_ms(result, plugged_s),
                lost_before=_lost_before(result, plugged_s - LEAD_S),
            ),
        )

    def _on_agent(self, wanted: tuple[Scenario, ...], logs: Path) -> Figures:
        scenarios = [scenario for scenario in ON_AGENT if scenario in wanted]
        with self._thaw(logs) as machine, self._probe() as probe:
            guest = Contestant(self._method, machine)
            if Scenario.UPGRADED in wanted:
                guest.bring_newer_agent()
            guest.begin()
            probe.start(machine)
            time.sleep(CALM_S)
            cuts_s = []
            for scenario in scenarios:
                cuts_s.append(time.monotonic() - LEAD_S)
                machine.run(_ON_AGENT[scenario])
                machine.run(_AGENT_RUNS)
                time.sleep(SETTLE_S)
            result = _ended(probe, machine, logs)
        before: int | None = _lost_before(result, cuts_s[0])
        for scenario, begin_s, end_s in zip(
            scenarios, cuts_s, [*cuts_s[1:], result.end_s], strict=True
        ):
            yield scenario, Round(flows=cut(result, begin_s, end_s), lost_before=before)
            before = None

    def _migrate(self, logs: Path) -> Figures:
        has_vf = Scenario.UNPLUG in self._method.scenarios
        with (
            self._thaw(logs) as source,
            Machine.destination(source) as destination,
            self._probe() as probe,
        ):
            guest = Contestant(self._method, source)
            if has_vf:
                guest.begin()
            description = self._describe(source, destination, has_vf=has_vf)
            probe.start(source)
            time.sleep(CALM_S)
            begin_s = time.monotonic() - LEAD_S
            report = host_helper.migrate(description, log=logs / "guestagent-host.log")
            if report.exit_code != 0 or report.downtime is None:
                raise PeerError(f"guestagent-host ended with {report.exit_code}: {report.message}")
            if has_vf:
                Contestant(self._method, destination).wait_active()
            time.sleep(SETTLE_S)
            result = _ended(probe, destination, logs, pauses=[report.downtime])
        stop_s, resume_s = report.downtime.begin_s, report.downtime.end_s
        flows = cut(result, begin_s, result.end_s)
        inside = lost_between(result, stop_s - ROUND_TRIP_S, resume_s + ROUND_TRIP_S)
        yield (
            Scenario.MIGRATE,
            Round(
                flows=flows,
                downtime_ms=(resume_s - stop_s) * 1000,
                lost_outside_downtime=sum(flow.lost for flow in flows) - inside,
                lost_before=_lost_before(result, begin_s),
            ),
        )

    def _describe(self, source: Machine, destination: Machine, *, has_vf: bool) -> Path:
        """Write the description of the VM as this method's operator would."""
        path = source.directory / "vm.toml"
        host_helper.write_description(path, source, destination)
        lines = path.read_text().splitlines(keepends=True)
        if not self._method.planned:
            lines = [line for line in lines if not line.startswith(("agent = ", "qga = "))]
        if not has_vf:
            lines.append("destination_vf = false\n")
        path.write_text("".join(lines))
        return path


def _picked(wanted: tuple[Scenario, ...], figures: Figures) -> Figures:
    return ((scenario, found) for scenario, found in figures if scenario in wanted)


def _ended(probe: Probe, machine: Machine, logs: Path, *, pauses: Sequence[Pause] = ()) -> Result:
    """End the probe; each lost packet and each change of the active port goes to the logs."""
    result = probe.stop(machine, pauses=pauses)
    (logs / "probe.json").write_text(result.to_json())
    return result


def _lost_before(result: Result, end_s: float) -> int:
    return lost_between(result, result.begin_s, end_s)
