"""What the agent takes while nothing happens: ``./dev bench rest``.

A guest whose pair is on its VF is left alone. The agent is woken by systemd's watchdog once a
minute, and by its own look without an event every ten.

::

    build/bench/rest.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict

from lab.image import ensure_image
from lab.machine import Machine
from lab.network import Network
from lab.paths import BUILD
from lab.setup import Pair, Setup
from lab.usage import agent_memory, agent_usage
from lab.waiting import wait_until

DIRECTORY = BUILD / "bench"
SECONDS = 300
_CALM = (
    "guestagent status --json | grep -q '\"converged\": true' && "
    "! grep -q 1 /sys/class/net/bond*/bonding/all_slaves_active"
)


def main(arguments: Sequence[str]) -> int:
    """Measure once and print it."""
    parser = argparse.ArgumentParser(prog="./dev bench rest", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, metavar="N", default=SECONDS,
                        help=f"default: {SECONDS}")  # fmt: skip
    seconds = parser.parse_args(arguments).seconds
    setup = Setup(pairs=(Pair(vf_at_boot=True),))
    with (
        Network() as network,
        Machine(
            image=ensure_image(), network=network, setup=setup, logs=DIRECTORY / "rest"
        ) as guest,
    ):
        guest.wait_ready()
        wait_calm(guest)
        # What the boot itself stirs up goes on for a while after its end.
        time.sleep(30)
        begin = agent_usage(guest)
        time.sleep(seconds)
        end = agent_usage(guest)
        memory = agent_memory(guest)
    report = {
        "seconds": seconds,
        "begin": asdict(begin),
        "end": asdict(end),
        "memory_kib": memory,
    }
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    (DIRECTORY / "rest.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"{end.wakeups - begin.wakeups} wake-ups in {seconds} s")
    print(f"{begin.resident_kib / 1024:.1f} MiB resident at the begin,"
          f" {end.resident_kib / 1024:.1f} at the end; {end.descriptors} descriptors")  # fmt: skip
    for kind, kib in memory.items():
        print(f"  {kib / 1024:5.1f} MiB  {kind}")
    return 0


def wait_calm(guest: Machine) -> None:
    """Wait until the agent has nothing to do, now or later."""
    wait_until("the agent has converged", lambda: guest.execute(_CALM).code == 0, timeout_s=120)
