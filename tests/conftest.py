"""Guests for the tiers that need some; nothing is started for a test that asks for none.

- ``guest``: a Debian guest with one NIC pair, up, its agent running, no VF plugged. Each test
  gets it in the same state.
- ``guests``: starts others: ``start(Setup(…))``, ``boot(Setup(…))``, ``destination(guest)``.
- ``network``: their wires, and the peer.

Logs: ``build/logs/<tier>/<test>/``.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.guests import Freezer, Guests
from lab.image import ensure_image
from lab.machine import Machine
from lab.network import Network
from lab.paths import LOGS, ROOT


@pytest.fixture(scope="session")
def freezer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Freezer]:
    """Guests booted once in this session."""
    directory = tmp_path_factory.mktemp("frozen")
    yield Freezer(make_image=ensure_image, directory=directory, logs=LOGS / "frozen")
    shutil.rmtree(directory)


@pytest.fixture
def logs(request: pytest.FixtureRequest) -> Path:
    """Return the empty directory for the logs of this test."""
    tier = request.path.relative_to(ROOT / "tests").parts[0]
    directory = LOGS / tier / re.sub(r"[^\w.-]+", "-", request.node.name)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
def network() -> Iterator[Network]:
    """Two hosts, a switch and a peer, for this test alone."""
    with Network() as made:
        yield made


@pytest.fixture
def guests(freezer: Freezer, network: Network, logs: Path) -> Iterator[Guests]:
    """Start guests that end with the test."""
    with ExitStack() as stack:
        yield Guests(freezer=freezer, network=network, logs=logs, stack=stack)


@pytest.fixture
def guest(guests: Guests) -> Machine:
    """Return the guest that most tests want."""
    return guests.start()
