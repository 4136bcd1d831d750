"""One guest that is measured alone, and what was measured, below ``build/bench/``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from lab.base.paths import BUILD
from lab.base.waiting import wait_until
from lab.image.build import ensure_image
from lab.machine.machine import Machine
from lab.machine.setup import Setup
from lab.network.wires import Network

DIRECTORY = BUILD / "bench"
_CALM = (
    "guestagent status --json | grep -q '\"converged\": true' && "
    "! grep -q 1 /sys/class/net/bond*/bonding/all_slaves_active"
)


@contextmanager
def alone(name: str, setup: Setup) -> Iterator[Machine]:
    """Run a guest that has booted, on a network of its own; its logs are below the name."""
    with (
        Network(subnets=len(setup.pairs)) as network,
        Machine(
            image=ensure_image(), network=network, setup=setup, logs=DIRECTORY / name
        ) as guest,
    ):
        guest.wait_ready()
        yield guest


def wait_calm(guest: Machine) -> None:
    """Wait until the agent has nothing to do, now or later."""
    wait_until("the agent has converged", lambda: guest.execute(_CALM).code == 0, timeout_s=120)


def keep(name: str, report: object) -> None:
    """Write a report as JSON under its name."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    (DIRECTORY / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
