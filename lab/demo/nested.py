"""``./dev demo --sriov``: the demonstration with real VFs, both hosts inside one guest."""

from __future__ import annotations

import time
from pathlib import Path

from lab.demo.run import DemoRun, say, summarize
from lab.nested.host import Hosts
from lab.network.wires import Network
from lab.probe.probe import Probe, ProbePace

CALM_S = 5.0
PACE = ProbePace(rate_hz=20.0, chunks_hz=5.0, sample_s=0.2, linger_s=3.0)
"""Pace of a probe of a guest that is emulated together with its host."""


def run(logs: Path) -> DemoRun:
    """Play it once."""
    with Network() as network, Hosts.make(network, logs=logs) as hosts:
        say(f"hosts A and B, in one guest: igb cards {hosts.pfs['A']} and {hosts.pfs['B']}")
        source = hosts.start("a")
        hosts.wait_ready(source)
        say("host A: a guest has booted, with a virtio NIC on a macvtap of the card")
        destination = hosts.start("b", awaits_state=True)
        description = hosts.describe(source, destination)
        hosts.helper(f"attach {description}")
        port = hosts.wait_on_vf(source)["active_port"]
        say(f"host A: the guest's bond uses its VF, {port} (vfio-pci, igbvf)")
        with Probe(network, pace=PACE) as probe:
            probe.start(source)
            say(f"peer: ICMP, UDP in both directions and TCP, {probe.rate_hz:.0f}/s each")
            time.sleep(CALM_S)
            say("host A: guestagent-host migrate")
            moved = hosts.migrate(description)
            downtime = moved.helper.completed()
            port = hosts.wait_on_vf(destination)["active_port"]
            say(f"host B: the guest's bond uses its VF, {port}")
            time.sleep(CALM_S)
            result = probe.stop(destination, pauses=[downtime])
            say("the probe has ended")
    return summarize(result, moved.helper, margin_s=moved.margin_s)
