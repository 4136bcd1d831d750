"""Many pairs in one guest: ``./dev bench crowd``.

All VFs are plugged at once: first into NICs that are configured, whose place bonds have to take,
then, after all were unplugged, into the bonds. For each pair: from the kernel's first message
about its VF until the bond sends by it.

::

    build/bench/crowd.json
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from guestagent.errors import PeerError
from lab.base.waiting import wait_until
from lab.bench.alone import DIRECTORY, alone, keep, wait_calm
from lab.bench.linkevents import MONITOR, appear_ms
from lab.machine.machine import Machine
from lab.machine.setup import NicPair, Setup
from lab.probe.usage import agent_usage

PAIRS = 16
TIMEOUT_S = 300.0
_ON_VF = (
    "for b in /sys/class/net/bond*/bonding; do read -r a <$b/active_slave; "
    "d=$(readlink /sys/class/net/$a/device/driver); [ ${d##*/} = e1000e ] && echo; done | wc -l"
)
_VFS = (
    "for n in /sys/class/net/*; do d=$(readlink $n/device/driver); [ ${d##*/} = e1000e ] && "
    "echo $(cat $n/ifindex); done || :"
)


def main(arguments: Sequence[str]) -> int:
    """Measure once and print it."""
    parser = argparse.ArgumentParser(prog="./dev bench crowd", description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, metavar="N", default=PAIRS,
                        help=f"default: {PAIRS}")  # fmt: skip
    count: int = parser.parse_args(arguments).pairs
    setup = Setup(pairs=tuple(NicPair(index=index) for index in range(count)), memory_mib=1024)
    logs = DIRECTORY / "crowd"
    with alone("crowd", setup) as guest:
        found = {"first plug": _plug_all(guest, logs / "first.txt")}
        for pair in setup.pairs:
            guest.unplug_vf(pair)
        wait_until("all bonds are on their standby", lambda: _on_vf(guest) == 0, timeout_s=120)
        wait_calm(guest)
        found["plug again"] = _plug_all(guest, logs / "again.txt")
        usage = agent_usage(guest)
    keep("crowd", found)
    for name, times_ms in found.items():
        print(f"{name}: {summary(times_ms)}")
    print(usage)
    return 0


def summary(times_ms: Mapping[int, float]) -> str:
    """Say how long the pairs took; the first, the middle and the last."""
    times = sorted(times_ms.values())
    return (
        f"{len(times)} pairs, from netdev to active: first {times[0]:.0f} ms,"
        f" median {statistics.median(times):.0f}, last {times[-1]:.0f}"
    )


def _plug_all(guest: Machine, log: Path) -> dict[int, float]:
    """Plug every VF; return the milliseconds of each pair, by the ifindex of its VF."""
    guest.run(
        "systemd-run --quiet --unit=links --service-type=exec "
        f"--property=StandardOutput=file:/run/links {MONITOR}"
    )
    begin_s = time.monotonic()
    for pair in guest.setup.pairs:
        guest.plug_vf(pair)
    count = len(guest.setup.pairs)
    wait_until("all bonds are on their VF", lambda: _on_vf(guest) == count,
               timeout_s=TIMEOUT_S, interval_s=0.5)  # fmt: skip
    print(f"bench: {count} pairs on their VF after {time.monotonic() - begin_s:.1f} s", flush=True)
    wait_calm(guest)
    events = guest.run("systemctl stop links; cat /run/links; rm /run/links")
    log.write_text(events)
    times_ms = {int(index): appear_ms(events, ifindex=int(index))
                for index in guest.run(_VFS).split()}  # fmt: skip
    missed = [index for index, took_ms in times_ms.items() if took_ms is None]
    if missed:
        raise PeerError(f"no moment is known at which the links {missed} were used; see {log}")
    return {index: took_ms for index, took_ms in times_ms.items() if took_ms is not None}


def _on_vf(guest: Machine) -> int:
    return int(guest.run(_ON_VF))
