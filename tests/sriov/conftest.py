"""One guest inside two hosts, which have real VFs; its journey is made once, step by step."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from lab.base.paths import LOGS
from lab.nested.host import Hosts
from lab.network.wires import Network
from tests.conftest import LOGS_OF_TEST
from tests.sriov.journey import Journey

SRIOV_LOGS = LOGS / "sriov"
LOST = SRIOV_LOGS / "lost.txt"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Say where the logs are before any fixture, so that the emulator's faults are known."""
    item.stash[LOGS_OF_TEST] = SRIOV_LOGS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report what was lost, also when all is as it must be."""
    if LOST.exists():
        terminalreporter.section("lost packets, by phase of the migration")
        terminalreporter.write(LOST.read_text())


class Route:
    """Where the journey is made; begun anew after a test that the emulator ended."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._journey: Journey | None = None

    def journey(self) -> Journey:
        """Return the journey, at the station that it has come to."""
        if self._journey is None:
            shutil.rmtree(SRIOV_LOGS, ignore_errors=True)
            SRIOV_LOGS.mkdir(parents=True)
            network = self._stack.enter_context(Network())
            hosts = self._stack.enter_context(Hosts.make(network, logs=SRIOV_LOGS))
            self._journey = Journey(hosts, report=LOST)
        return self._journey

    def close(self) -> None:
        """End all that runs."""
        self._journey = None
        self._stack.close()


@pytest.fixture(scope="session")
def route() -> Iterator[Route]:
    """Keep the journey from test to test."""
    made = Route()
    yield made
    made.close()


@pytest.fixture
def journey(request: pytest.FixtureRequest, route: Route) -> Journey:
    """The guest's journey, on host A on its virtio NIC at first; a test asks for its station."""
    if getattr(request.node, "execution_count", 1) > 1:
        route.close()
    return route.journey()
