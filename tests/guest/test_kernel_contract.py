"""The real kernel and the agent's adapter keep the contract that the fake kernel keeps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.base.paths import LOGS, ROOT
from lab.machine.guests import Freezer
from lab.machine.machine import Machine
from lab.machine.monitor import Json
from lab.machine.setup import Setup
from lab.network.wires import Network
from tests.contract.kernel import CLAIMS

TREE = "/run/contract"
CLAIMS_S = 600.0
"""A minute on a machine that has nothing else to do, and more than two were seen."""


@pytest.fixture(scope="module")
def results(freezer: Freezer) -> Iterator[Json]:
    """All claims, held against the kernel of one guest."""
    logs = LOGS / "guest" / "kernel-contract"
    with (
        Network() as network,
        Machine.thaw(freezer.frozen(Setup()), network=network, logs=logs) as guest,
    ):
        for path in (ROOT / "tests" / "contract").glob("kernel*.py"):
            guest.write_file(f"{TREE}/tests/contract/{path.name}", path.read_text())
        python = f"cd {TREE} && PYTHONPATH={TREE} python3 -B"
        yield guest.run_json(f"{python} -m tests.contract.kernel_in_guest", timeout_s=CLAIMS_S)


@pytest.mark.parametrize("name", CLAIMS)
def test_the_real_kernel_keeps_to(name: str, results: Json) -> None:
    failure = results[name]
    assert failure is None, failure
