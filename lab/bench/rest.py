"""Memory and wake-ups of an idle agent: ``./dev bench rest``.

A guest whose pair is on its VF is left alone. The agent is woken by systemd's watchdog once a
minute, and by its own look without an event every ten.

::

    build/bench/rest.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict

from lab.bench.alone import alone, keep, wait_calm
from lab.machine.setup import NicPair, Setup
from lab.probe.usage import agent_memory, agent_usage

SECONDS = 300


def main(arguments: Sequence[str]) -> int:
    """Measure once and print it."""
    parser = argparse.ArgumentParser(prog="./dev bench rest", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, metavar="N", default=SECONDS,
                        help=f"default: {SECONDS}")  # fmt: skip
    seconds = parser.parse_args(arguments).seconds
    setup = Setup(pairs=(NicPair(vf_at_boot=True),))
    with alone("rest", setup) as guest:
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
    keep("rest", report)
    print(f"{end.wakeups - begin.wakeups} wake-ups in {seconds} s")
    print(f"{begin.resident_kib / 1024:.1f} MiB resident at the begin,"
          f" {end.resident_kib / 1024:.1f} at the end; {end.descriptors} descriptors")  # fmt: skip
    for kind, kib in memory.items():
        print(f"  {kib / 1024:5.1f} MiB  {kind}")
    return 0
