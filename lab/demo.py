"""The demonstration: a guest with a VF moves to another host and keeps talking.

::

    build/demo/report.json               what was lost, in which phase, and what took how long
    build/demo/timeline.svg  .png        the same as a picture
    build/demo/logs/                     consoles, journals, QEMU, the host helper, the probe

The last line on stdout says ``demo: pass …`` or ``demo: fail …``. With ``--sriov`` the VF is a
real one, and both hosts are inside a guest (lab/nested/demo.py): the report is the same.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from guestagent.errors import EXIT_USAGE, GuestAgentError
from lab import migration, timeline
from lab.image import ensure_image
from lab.machine import Machine
from lab.network import Network
from lab.paths import BUILD
from lab.phases import ROUND_TRIP_S, Phase, phases_of
from lab.probe import Probe, Result
from lab.setup import Pair, Setup
from lab.waiting import wait_until

DIRECTORY = BUILD / "demo"

CALM_S = 3.0  # before the migration and after the return to the VF
BOND_TIMEOUT_S = 60.0

# The guest leaves the VF before it is taken: only QEMU's own downtime may lose anything.
LOSSY_PHASES = {"downtime"}
EXPECTED_PORTS = {"before": "vf", "during": "standby", "after": "vf"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run of the demonstration showed."""

    probe: Result
    helper: migration.Report
    phases: tuple[Phase, ...]
    active_port: dict[str, str]

    def problems(self) -> Iterator[str]:
        """Yield what is not as it must be."""
        if self.active_port != EXPECTED_PORTS:
            yield f"active port {self.active_port}"
        if not self.probe.tcp.survived:
            yield "the TCP connection broke"
        # A guest that has left its VF before the unplug loses nothing at it.
        planned = any(phase.name == "switch" for phase in self.phases)
        lossy = {"downtime"} if planned else {"downtime", "unplug"}
        for phase in self.phases:
            if phase.name not in lossy and phase.lost:
                yield f"{phase.lost} packets lost in phase {phase.name}"

    def to_json(self, *, passed: bool) -> str:
        """Return the report; times count from the begin of the probe."""
        begin_s = self.probe.begin_s
        return json.dumps(
            {
                "result": "pass" if passed else "fail",
                "rate_hz": self.probe.rate_hz,
                "sent": self.probe.sent,
                "lost": self.probe.lost,
                "phases": [
                    {
                        "name": phase.name,
                        "start_s": round(phase.begin_s - begin_s, 4),
                        "end_s": round(phase.end_s - begin_s, 4),
                        "lost": phase.lost,
                        "longest_gap_ms": round(phase.longest_gap_ms, 1),
                    }
                    for phase in self.phases
                ],
                "active_port": self.active_port,
                "migration": {
                    "total_ms": self.helper.total_ms,
                    "downtime_ms": self.helper.downtime_ms,
                },
                "tcp": {
                    "survived": self.probe.tcp.survived,
                    "longest_stall_ms": round(self.probe.tcp.longest_stall_ms, 1),
                },
            },
            indent=2,
        )


def main(arguments: list[str]) -> int:
    """Run the demonstration once; return 0 if all is as it must be."""
    if arguments not in ([], ["--sriov"]):
        print("usage: sudo ./dev demo [--sriov]")
        return EXIT_USAGE
    if arguments:
        from lab.nested.demo import run

        return conclude(run)
    return conclude(_run)


def conclude(story: Callable[[Path], Run]) -> int:
    """Play a story, which gets the directory for its logs, and report it; return the exit code."""
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    logs = DIRECTORY / "logs"
    logs.mkdir(parents=True)
    try:
        run = story(logs)
    except (GuestAgentError, OSError) as error:
        print(f"demo: fail: {error}; see {logs}")
        return 1
    problems = list(run.problems())
    (logs / "probe.json").write_text(run.probe.to_json())
    (DIRECTORY / "report.json").write_text(run.to_json(passed=not problems) + "\n")
    timeline.draw(run.probe, run.phases, DIRECTORY / "timeline")
    say(f"report and timeline are in {DIRECTORY}")
    lost = f"{run.probe.lost} of {run.probe.sent} packets lost"
    where = ", ".join(f"{phase.name} {phase.lost}" for phase in run.phases if phase.lost)
    if problems:
        print(f"demo: fail: {'; '.join(problems)}; {lost} ({where or 'none'})")
        return 1
    downtime = f"guest stopped for {run.helper.downtime_ms} ms"
    print(f"demo: pass: {lost} ({where or 'none'}), TCP alive, {downtime}")
    return 0


def told(probe: Result, helper: migration.Report, *, margin_s: float = ROUND_TRIP_S) -> Run:
    """Put together what probe and helper saw; ``margin_s`` is around the downtime.

    :raise PeerError: the helper ended without a migration.
    """
    phases = phases_of(probe, helper, margin_s=margin_s)
    return Run(
        probe=probe,
        helper=helper,
        phases=phases,
        active_port={
            "before": probe.active_kind_at(phases[0].end_s),
            "during": probe.active_kind_at(helper.completed().begin_s),
            "after": probe.active_kind_at(probe.end_s),
        },
    )


def _run(logs: Path) -> Run:
    image = ensure_image()
    pair = Pair(vf_at_boot=True)
    setup = Setup(name="hostA", pairs=(pair,))
    with (
        Network() as network,
        Machine(image=image, network=network, setup=setup, logs=logs) as source,
        Machine.destination(source, name="hostB") as destination,
        Probe(network, pair=pair) as probe,
    ):
        say("host A: a guest boots with a virtio NIC and a VF of one MAC address")
        source.wait_ready()
        port = _wait_for_vf(source)
        say(f"host A: the guest's bond uses its VF, {port}")
        probe.start(source)
        say(f"peer: ICMP, UDP in both directions and TCP, {probe.rate_hz:.0f}/s each")
        time.sleep(CALM_S)

        description = source.directory / "vm.toml"
        migration.write_description(description, source, destination)
        shutil.copy(description, logs)
        say("host A: guestagent-host migrate")
        helper = migration.migrate(description, log=logs / "guestagent-host.log", on_progress=say)
        downtime = helper.completed()
        port = _wait_for_vf(destination)
        say(f"host B: the guest's bond uses its VF, {port}")
        time.sleep(CALM_S)
        result = probe.stop(destination, pauses=[downtime])
        say("the probe has ended")
    return told(result, helper)


def _wait_for_vf(machine: Machine) -> str:
    """Return the name of the VF when it is the active port of the bond.

    :raise DeadlineError: it never was.
    """
    what = "the VF is the active port of the bond"
    return wait_until(what, lambda: _vf_port(machine), timeout_s=BOND_TIMEOUT_S)


def _vf_port(machine: Machine) -> str:
    """Return the name of the active port if the agent says that it is the VF, else nothing."""
    status = machine.execute("guestagent status --json")
    if status.code != 0:
        return ""
    pairs = json.loads(status.stdout)["pairs"]
    return str(pairs[0]["active_port"]) if pairs and pairs[0]["active"] == "vf" else ""


_begin_s = time.monotonic()


def say(text: str) -> None:
    """Tell how far the demonstration is."""
    print(f"demo: {time.monotonic() - _begin_s:6.1f} s  {text}", flush=True)
