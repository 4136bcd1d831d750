"""The real kernel and the agent's adapter keep the contract that the fake kernel keeps.

With every pyroute2 that the agent supports: that of Debian 12, that of Debian 13, which the
guest has, and the newest, which the tests' own Python has.
"""

from __future__ import annotations

import base64
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import pyroute
from lab.guests import Freezer
from lab.machine import Machine
from lab.monitor import Json
from lab.network import Network
from lab.paths import LOGS, ROOT
from lab.setup import Setup
from tests.contract.kernel import CLAIMS

TREE = "/run/contract"
DEBIAN_12, DEBIAN_13, NEWEST = "0.7.2", "0.7.7", "newest"
VERSIONS = (DEBIAN_12, DEBIAN_13, NEWEST)
CLAIMS_S = 600.0
"""A minute on a machine that has nothing else to do, and more than two were seen."""
SHOW_VERSION = (
    "import importlib.metadata, pyroute2; print(importlib.metadata.version('pyroute2'), "
    "pyroute2.__path__[0])"
)


def put_modules(guest: Machine, package: Path, target: str) -> None:
    """Put a package's modules into the guest, with what tells its version."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path in [*package.rglob("*.py"), *package.parent.glob("pyroute2-*/METADATA")]:
            archive.add(path, path.relative_to(package.parent))
    content = base64.b64encode(buffer.getvalue()).decode()
    guest.run(f"mkdir -p {target} && base64 -d | tar -xzC {target}", stdin=content)


@pytest.fixture(scope="module")
def results(freezer: Freezer) -> Iterator[Json]:
    """All claims, held against the kernel of one guest with each version."""
    logs = LOGS / "guest" / "kernel-contract"
    with (
        Network() as network,
        Machine.thaw(freezer.frozen(Setup()), network=network, logs=logs) as guest,
    ):
        for path in (ROOT / "tests" / "contract").glob("kernel*.py"):
            guest.write_file(f"{TREE}/tests/contract/{path.name}", path.read_text())
        put_modules(guest, pyroute.fetched(DEBIAN_12), f"{TREE}/{DEBIAN_12}")
        put_modules(guest, pyroute.installed(), f"{TREE}/{NEWEST}")
        found = {}
        for version in VERSIONS:
            # The guest's own is found when there is no such directory.
            python = f"cd {TREE} && PYTHONPATH={TREE}:{TREE}/{version} python3 -B"
            shown = guest.run(f'{python} -W ignore -c "{SHOW_VERSION}"')
            print(f"{version}: {shown}", end="")
            claims = guest.run_json(
                f"{python} -m tests.contract.kernel_in_guest", timeout_s=CLAIMS_S
            )
            found[version] = {"shown": shown, "claims": claims}
        yield found


@pytest.mark.parametrize("version", VERSIONS)
def test_the_version_is_the_one_that_is_meant(version: str, results: Json) -> None:
    number, path = results[version]["shown"].split()
    assert path.startswith(TREE) == (version != DEBIAN_13)
    assert number.startswith("0.9." if version == NEWEST else version)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", CLAIMS)
def test_the_real_kernel_keeps_to(name: str, version: str, results: Json) -> None:
    failure = results[version]["claims"][name]
    assert failure is None, failure
