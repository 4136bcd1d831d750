"""A test that the emulator ended is run once more; a test that failed is not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab.base.paths import ROOT
from lab.machine.faults import fault
from tests.conftest import RERUNS_MAX

STOOD_STILL = "[   41.2] rcu: rcu_preempt kthread timer wakeup didn't happen for 21003 jiffies!"
ENDED = "qemu: ../system/physmem.c:672: iotlb_to_section: Assertion `index < d->nb' failed."
# One file of tests for all cases, since a nested pytest takes seconds to start: each test has its
# own list of runs by number that the emulator spoils, that are late and that fail.
CASES_SOURCE = """
import pytest
from guestagent.errors import DeadlineError
from tests.conftest import LOGS_OF_TEST

CASES = {cases!r}
RUNS = dict.fromkeys(CASES, 0)

@pytest.fixture
def logs(request, tmp_path):
    request.node.stash[LOGS_OF_TEST] = tmp_path
    return tmp_path

@pytest.fixture
def number(request, logs):
    name = request.node.callspec.id
    phase, faults, late, fails = CASES[name]
    RUNS[name] += 1
    number = RUNS[name]
    (logs / "guest-serial.log").write_text({line!r} if number in faults else "login:")
    assert phase == "call" or number not in fails
    return number

@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_it(number, case):
    _, _, late, fails = case
    if number in late:
        raise DeadlineError("not within 120 s")
    assert number not in fails

def test_report():
    print("RUNS", *(f"{{name}}={{number}}" for name, number in RUNS.items()))
"""
MANY = """
import pytest
from guestagent.errors import DeadlineError
from tests.conftest import LOGS_OF_TEST

SEEN = set()

@pytest.mark.parametrize("number", range({count}))
def test_it(request, tmp_path, number):
    request.node.stash[LOGS_OF_TEST] = tmp_path
    if number not in SEEN:
        SEEN.add(number)
        raise DeadlineError("not within 120 s")
"""


@pytest.mark.parametrize(
    ("name", "line"), [("guest-serial.log", STOOD_STILL), ("dest-qemu.log", ENDED)]
)
def test_a_fault_is_told_by_its_line_and_by_nothing_else(
    tmp_path: Path, name: str, line: str
) -> None:
    (tmp_path / "guest-serial.log").write_text("login: \n")
    (tmp_path / "dest-qemu.log").write_text("qemu: warning: 9p: degraded performance\n")
    assert fault(tmp_path) is None
    (tmp_path / name).write_text(f"login: \n{line}\nmore\n")
    assert fault(tmp_path) == f"{name}: {line}"


CASES = {
    # the runs with a fault, that are late, that fail; how many there are, whether the last passes
    "fault": ([1], [], [1], 2, True),
    "failure": ([], [], [1], 1, False),
    "fault-twice": ([1, 2], [], [1, 2], 2, False),
    "late": ([], [1], [], 2, True),
    "late-twice": ([], [1, 2], [], 2, False),
    "late-then-failure": ([], [1], [2], 2, False),
}
PHASES = ("setup", "call")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, bool]]:
    """Return how often each case ran, and whether it passed in the end."""
    cases = {
        f"{phase}-{name}": (phase, faults, late, fails)
        for phase in PHASES
        for name, (faults, late, fails, _, _) in CASES.items()
    }
    directory = tmp_path_factory.mktemp("cases")
    source = CASES_SOURCE.format(cases=cases, line=STOOD_STILL)
    done = run_pytest(directory, source, "-rA")
    passed = set(re.findall(r"^PASSED \S+\[(\S+)\]$", done.stdout, re.MULTILINE))
    runs = re.search(r"^RUNS (.*)$", done.stdout, re.MULTILINE)
    assert runs is not None, done.stdout
    counts = dict(item.split("=") for item in runs[1].split())
    return {name: (int(counts[name]), name in passed) for name in cases}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", CASES)
def test_a_test_is_run_again_for_a_fault_and_a_deadline_alone(
    outcomes: dict[str, tuple[int, bool]], phase: str, name: str
) -> None:
    *_, runs, passed = CASES[name]
    assert outcomes[f"{phase}-{name}"] == (runs, passed)


@pytest.mark.parametrize(("count", "passed"), [(RERUNS_MAX, True), (RERUNS_MAX + 1, False)])
def test_a_tier_with_many_tests_run_again_fails(
    tmp_path: Path, count: int, *, passed: bool
) -> None:
    done = run_pytest(tmp_path, MANY.format(count=count))
    assert f"{count} passed" in done.stdout, done.stdout
    assert done.returncode == (0 if passed else 1)
    assert ("the tier fails" in done.stdout) != passed


def run_pytest(directory: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run one file of tests with this project's settings."""
    path = directory / "test_it.py"
    path.write_text(source)
    argv = [
        *(sys.executable, "-m", "pytest", "-q", "-c", str(ROOT / "pyproject.toml")),
        *("-p", "tests.conftest", "-p", "no:cacheprovider", f"--rootdir={directory}", str(path)),
        *options,
    ]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
