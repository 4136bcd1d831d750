"""Time that the agent adds to a boot: ``./dev bench boot``.

Four kinds of guests take turns, so that a busy spell of this machine hits all of them: with one
NIC, as most guests are, and with a pair to bond; each without the agent and with it.

::

    build/bench/boot.json       for each kind the figures of each boot, in milliseconds
    build/bench/boot/           journals
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lab.bench.alone import DIRECTORY, keep
from lab.image.build import Image, ensure_image
from lab.machine.machine import Machine
from lab.machine.setup import NicPair, Setup
from lab.network.wires import Network

ROUNDS = 5

# Microseconds since the kernel started: of init, of the first process of the network stack, of
# the moment at which the boot is over; when the early unit began, and ended or was found needless.
_SHOW = (
    "systemctl is-system-running --wait >/dev/null; "
    "systemctl show --value --property UserspaceTimestampMonotonic; "
    "systemctl show --value --property ExecMainStartTimestampMonotonic systemd-networkd; "
    "systemctl show --value --property FinishTimestampMonotonic; "
    "systemctl show --value --property InactiveExitTimestampMonotonic guestagent-early; "
    "systemctl show --value --property ActiveEnterTimestampMonotonic guestagent-early; "
    "systemctl show --value --property InactiveEnterTimestampMonotonic guestagent-early"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """One boot, from the start of init on."""

    network_ms: int
    """Until the network stack starts."""
    finished_ms: int
    """Until systemd says that the boot is over."""
    early_ms: int | None
    """Time for which the boot waited for the early unit, with work or without; None without it."""


def parse(shown: str) -> Boot:
    """Return the figures of what ``_SHOW`` prints: one number or nothing a line."""
    numbers = [int(line or 0) for line in (*shown.split("\n"), "", "", "")[:6]]
    begin, network, finished, early_begin, made, needless = numbers
    early_end = made or needless
    return Boot(
        network_ms=(network - begin) // 1000,
        finished_ms=(finished - begin) // 1000,
        early_ms=(early_end - early_begin) // 1000 if early_end else None,
    )


def main(arguments: Sequence[str]) -> int:
    """Boot each kind as often as is asked for, and print the medians."""
    parser = argparse.ArgumentParser(prog="./dev bench boot", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, metavar="N", default=ROUNDS,
                        help=f"default: {ROUNDS}")  # fmt: skip
    rounds = parser.parse_args(arguments).rounds
    with_agent, without = ensure_image(), ensure_image(with_agent=False)
    pair = Setup(pairs=(NicPair(vf_at_boot=True),))
    kinds = {
        "one NIC, no agent": (without, Setup()),
        "one NIC, the agent": (with_agent, Setup()),
        "a pair, no agent": (without, pair),
        "a pair, the agent": (with_agent, pair),
    }
    boots: dict[str, list[Boot]] = {name: [] for name in kinds}
    for number in range(rounds):
        for name, (image, setup) in kinds.items():
            # No comma: what follows one is another option to QEMU.
            logs = DIRECTORY / "boot" / f"{number}-{name.replace(', ', '-').replace(' ', '-')}"
            boots[name].append(_boot(image, setup, logs))
            print(f"bench: boot {number + 1} of {rounds}: {name}: {boots[name][-1]}", flush=True)
    report = {name: [asdict(boot) for boot in found] for name, found in boots.items()}
    keep("boot", report)
    for name, found in boots.items():
        print(f"{name:20} {_median_ms(found)}")
    return 0


def _boot(image: Image, setup: Setup, logs: Path) -> Boot:
    with Network() as network, Machine(image=image, network=network, setup=setup, logs=logs) as it:
        it.wait_ready()
        return parse(it.run(_SHOW))


def _median_ms(boots: Sequence[Boot]) -> str:
    network = statistics.median(boot.network_ms for boot in boots)
    finished = statistics.median(boot.finished_ms for boot in boots)
    early = [boot.early_ms for boot in boots if boot.early_ms is not None]
    unit = f", early unit {statistics.median(early):.0f} ms" if early else ""
    return f"network stack starts after {network:.0f} ms, boot over after {finished:.0f} ms{unit}"
