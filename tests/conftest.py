"""Guests for the tiers that need some; nothing is started for a test that asks for none.

- ``guest``: a Debian guest with one NIC pair, up, its agent running, no VF plugged. Each test
  gets it in the same state.
- ``guests``: starts others: ``start(Setup(…))``, ``boot(Setup(…))``, ``destination(guest)``.
- ``network``: their wires, and the peer.

Without root or QEMU the tests of these tiers are skipped, and the reason is printed; where CI=true
they fail. What the unit tests need of this file is the standard library and pytest.

Logs: ``build/logs/<tier>/<test>/``.

A test whose emulated machine failed by itself (lab/machine/faults.py), or that reached a deadline,
is run once more with machines of its own, and the summary lists it: ``EmulatorFault`` is the one
error for which pyproject.toml has tests run again. A deadline ends a wait and is no claim; on two
processors that emulate everything, one in some hundreds is passed for no reason in the product. A
claim that does not hold fails at once; what never happens fails twice; and a tier in which more
than ``RERUNS_MAX`` tests were run again fails whatever their second result.

The logs of the first run stay, beside those of the second, which end with ``-again``.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from guestagent.errors import DeadlineError
from lab.base.paths import LOGS, ROOT
from lab.dev.tiers import TIERS, in_ci
from lab.machine.faults import EmulatorFault, fault

if TYPE_CHECKING:
    from lab.machine.guests import Freezer, Guests
    from lab.machine.machine import Machine
    from lab.network.wires import Network

LOGS_OF_TEST = pytest.StashKey[Path]()
RERUNS_MAX = 3
TESTS = ROOT / "tests"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    """Skip what cannot run here, and name a fault of the emulator in the set-up."""
    reason = _lacks(item)
    if reason and in_ci():
        pytest.fail(reason, pytrace=False)
    if reason:
        pytest.skip(reason)
    return (yield from _faults_named(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Name a fault of the emulator in the test."""
    return (yield from _faults_named(item))


def _lacks(item: pytest.Item) -> str | None:
    """Return why a test of a tier that boots guests cannot run here."""
    if not item.path.is_relative_to(TESTS):
        return None
    if item.path.relative_to(TESTS).parts[0] not in {tier.name for tier in TIERS if tier.guests}:
        return None
    there = {"root": os.geteuid() == 0, "QEMU": shutil.which("qemu-system-x86_64") is not None}
    missing = " and ".join(name for name, is_there in there.items() if not is_there)
    return f"needs {missing}; run: sudo ./dev test" if missing else None


def _faults_named(item: pytest.Item) -> Generator[None]:
    try:
        return (yield)
    except EmulatorFault as error:
        # By its own name: those that are run again are chosen by that.
        raise EmulatorFault(str(error)) from error
    except Exception as error:
        logs = item.stash.get(LOGS_OF_TEST, None)
        said = fault(logs) if logs else None
        if said is None and logs and isinstance(error, DeadlineError):
            said = f"not in time: {error}"
        if said is None:
            raise
        raise EmulatorFault(said) from error


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a tier that needed too many second runs."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    again = len(reporter.stats.get("rerun", []))
    if again > RERUNS_MAX:
        reporter.section("too many second runs")
        reporter.line(f"{again} tests were run again, {RERUNS_MAX} may be: the tier fails")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def freezer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Freezer]:
    """Guests booted once in this session."""
    from lab.image.build import ensure_image
    from lab.machine.guests import Freezer

    directory = tmp_path_factory.mktemp("frozen")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    yield Freezer(make_image=ensure_image, directory=directory, logs=LOGS / "frozen" / worker)
    shutil.rmtree(directory)


@pytest.fixture
def logs(request: pytest.FixtureRequest) -> Path:
    """Return the empty directory for the logs of this test."""
    tier = request.path.relative_to(TESTS).parts[0]
    again = "-again" if getattr(request.node, "execution_count", 1) > 1 else ""
    directory = LOGS / tier / (re.sub(r"[^\w.-]+", "-", request.node.name) + again)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    request.node.stash[LOGS_OF_TEST] = directory
    return directory


@pytest.fixture
def network() -> Iterator[Network]:
    """Two hosts, a switch and a peer, for this test alone."""
    from lab.network.wires import Network

    with Network() as made:
        yield made


@pytest.fixture
def guests(freezer: Freezer, network: Network, logs: Path) -> Iterator[Guests]:
    """Start guests that end with the test."""
    from lab.machine.guests import Guests

    with ExitStack() as stack:
        yield Guests(freezer=freezer, network=network, logs=logs, stack=stack)


@pytest.fixture
def guest(guests: Guests) -> Machine:
    """Return the guest that most tests want."""
    return guests.start()
