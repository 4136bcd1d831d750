"""A VF that goes and comes a thousand times: ``./dev bench soak``.

In the guest the card is removed from its PCI bus and found again, which is a hot-plug but for the
ports' own part in it; a script there waits for the bond. Every so often the agent's memory and
descriptors and the bond's options are noted: they must stay as they are.

::

    build/bench/soak.json       what was noted, and the milliseconds of every cycle
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from lab.bench.alone import alone, keep, wait_calm
from lab.machine.machine import Machine
from lab.machine.setup import NicPair, Setup
from lab.probe.usage import Usage, agent_usage

CYCLES = 1000
SAMPLES = 20
GROWTH_KIB = 1024
"""Limit of the agent's growth after the first sample, which is taken after the first cycles."""

# Prints for each cycle how long it took, in microseconds: until the bond has lost its VF, and
# from the search for it until the VF is primary and active again.
_CYCLES = """
bond=/sys/class/net/bond0/bonding
pci=$(readlink -f /sys/class/net/$(<$bond/active_slave)/device)
port=${pci%/*}
exec {nap}<> <(:)
for _ in $(seq COUNT); do
    begin=${EPOCHREALTIME/./}
    echo 1 >$pci/remove
    until read -r slaves <$bond/slaves && [[ $slaves != *' '* ]]
    do read -rt 0.02 -u $nap || :; done
    middle=${EPOCHREALTIME/./}
    echo 1 >$port/rescan
    until read -r active <$bond/active_slave && [[ $active && $active != $slaves ]] &&
        read -r primary _ <$bond/primary && [[ $primary = $active ]]
    do read -rt 0.02 -u $nap || :; done
    echo $((middle - begin)) $((${EPOCHREALTIME/./} - middle))
done
"""
_OPTIONS = (
    "cd /sys/class/net/bond0/bonding; for f in *; do case $f in slaves|active_slave|primary|"
    "mii_status|ad_*|queue_id) ;; *) echo $f $(cat $f) ;; esac; done"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Sample of the agent and the bond after a number of cycles."""

    cycles: int
    usage: Usage
    options: str


def complaints(samples: Sequence[Sample]) -> Iterator[str]:
    """Yield what has not stayed as it was; the first sample is what all are held against."""
    first, *others = samples
    for sample in others:
        grown = sample.usage.resident_kib - first.usage.resident_kib
        if grown > GROWTH_KIB:
            yield f"after {sample.cycles} cycles the agent has grown by {grown} KiB"
        if sample.usage.descriptors != first.usage.descriptors:
            yield f"after {sample.cycles} cycles it has {sample.usage.descriptors} descriptors"
        if sample.options != first.options:
            yield f"after {sample.cycles} cycles the bond's options differ: {sample.options}"


def main(arguments: Sequence[str]) -> int:
    """Run all cycles in one guest; 1 when something has not stayed as it was."""
    parser = argparse.ArgumentParser(prog="./dev bench soak", description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, metavar="N", default=CYCLES,
                        help=f"default: {CYCLES}")  # fmt: skip
    cycles: int = parser.parse_args(arguments).cycles
    # An emulator of several processors ends, once in some hundred hot-plugs, by an assertion of
    # its own (lab/machine/faults.py): one of them still knows what another has just removed.
    setup = Setup(pairs=(NicPair(vf_at_boot=True),), cpus=1)
    with alone("soak", setup) as guest:
        wait_calm(guest)
        samples, times_us = soak(guest, cycles)
        plan = guest.run("guestagent plan").strip()
    found = [*complaints(samples), *([] if plan == "nothing to do" else [plan])]
    report = {
        "cycles": cycles,
        "samples": [asdict(sample) for sample in samples],
        "gone_us": [gone for gone, _ in times_us],
        "back_us": [back for _, back in times_us],
        "complaints": found,
    }
    keep("soak", report)
    for name, column in (("gone", 0), ("back", 1)):
        took_ms = [row[column] / 1000 for row in times_us]
        print(f"{name}: median {statistics.median(took_ms):.0f} ms, most {max(took_ms):.0f}")
    print("\n".join(found) or f"{cycles} cycles left nothing behind")
    return 1 if found else 0


def soak(guest: Machine, cycles: int) -> tuple[list[Sample], list[tuple[int, int]]]:
    """Run the cycles; return what was noted and the microseconds of each."""
    samples: list[Sample] = []
    times_us: list[tuple[int, int]] = []
    step = max(1, cycles // SAMPLES)
    while len(times_us) < cycles:
        count = min(step, cycles - len(times_us))
        words = guest.run(_CYCLES.replace("COUNT", str(count)), timeout_s=60 + 30 * count)
        for line in words.splitlines():
            gone, back = line.split()
            times_us.append((int(gone), int(back)))
        wait_calm(guest)
        usage, options = agent_usage(guest), guest.run(_OPTIONS)
        samples.append(Sample(cycles=len(times_us), usage=usage, options=options))
        print(f"bench: {samples[-1].cycles} cycles: {usage}", flush=True)
    return samples, times_us
