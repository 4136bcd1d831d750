"""The demonstration: a guest with a VF moves to another host and keeps talking.

::

    build/demo/report.json               lost packets and duration of each phase
    build/demo/timeline.svg  .png        the same as a picture
    build/demo/logs/                     consoles, journals, QEMU, the host helper, the probe

The last line on stdout says ``demo: pass …`` or ``demo: fail …``. With ``--sriov`` the VF is a
real one, and both hosts are inside a guest (lab/demo/nested.py): the report is the same.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from guestagent.errors import EXIT_USAGE, GuestAgentError
from lab.base.paths import BUILD
from lab.base.waiting import wait_until
from lab.demo.run import DemoRun, say, summarize
from lab.image.build import ensure_image
from lab.machine.machine import Machine
from lab.machine.setup import NicPair, Setup
from lab.migration import host_helper, timeline
from lab.network.wires import Network
from lab.probe.probe import Probe

DIRECTORY = BUILD / "demo"

CALM_S = 3.0  # before the migration and after the return to the VF
BOND_TIMEOUT_S = 60.0


def main(arguments: list[str]) -> int:
    """Run the demonstration once; return 0 if all is as it must be."""
    if arguments not in ([], ["--sriov"]):
        print("usage: sudo ./dev demo [--sriov]")
        return EXIT_USAGE
    if arguments:
        from lab.demo.nested import run

        return conclude(run)
    return conclude(_run)


def conclude(story: Callable[[Path], DemoRun]) -> int:
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


def _run(logs: Path) -> DemoRun:
    image = ensure_image()
    pair = NicPair(vf_at_boot=True)
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
        host_helper.write_description(description, source, destination)
        shutil.copy(description, logs)
        say("host A: guestagent-host migrate")
        helper = host_helper.migrate(
            description, log=logs / "guestagent-host.log", on_progress=say
        )
        downtime = helper.completed()
        port = _wait_for_vf(destination)
        say(f"host B: the guest's bond uses its VF, {port}")
        time.sleep(CALM_S)
        result = probe.stop(destination, pauses=[downtime])
        say("the probe has ended")
    return summarize(result, helper)


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
