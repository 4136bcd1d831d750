"""A test that the emulator ended is run once more; a test that failed is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lab.emulator import fault
from lab.paths import ROOT
from tests.conftest import RERUNS_MAX

STOOD_STILL = "[   41.2] rcu: rcu_preempt kthread timer wakeup didn't happen for 21003 jiffies!"
ENDED = "qemu: ../system/physmem.c:672: iotlb_to_section: Assertion `index < d->nb' failed."
TEST = """
import pytest
from guestagent.errors import DeadlineError
from tests.conftest import LOGS_OF_TEST

@pytest.fixture
def logs(request, tmp_path):
    request.node.stash[LOGS_OF_TEST] = tmp_path
    return tmp_path

@pytest.fixture
def guest(logs):
    with open({seen!r}, "a+") as seen:
        seen.write("x")
        seen.seek(0)
        number = len(seen.read())
    (logs / "guest-serial.log").write_text({line!r} if number in {faults} else "login:")
    assert {phase!r} == "call" or number not in {fails}
    return number

def test_it(guest):
    if guest in {late}:
        raise DeadlineError("not within 120 s")
    assert guest not in {fails}
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


@pytest.mark.parametrize("phase", ["setup", "call"])
@pytest.mark.parametrize(
    ("faults", "late", "fails", "runs", "passed"),
    [
        ([1], [], [1], 2, True),
        ([], [], [1], 1, False),
        ([1, 2], [], [1, 2], 2, False),
        ([], [1], [], 2, True),
        ([], [1, 2], [], 2, False),
        ([], [1], [2], 2, False),
    ],
    ids=["fault", "failure", "fault-twice", "late", "late-twice", "late-then-failure"],
)
def test_a_test_is_run_again_for_a_fault_and_a_deadline_alone(
    tmp_path: Path,
    phase: str,
    faults: list[int],
    late: list[int],
    fails: list[int],
    runs: int,
    *,
    passed: bool,
) -> None:
    seen = tmp_path / "seen"
    source = TEST.format(
        seen=str(seen), line=STOOD_STILL, faults=faults, late=late, fails=fails, phase=phase
    )
    done = run_pytest(tmp_path, source)
    assert (len(seen.read_text()), done.returncode) == (runs, 0 if passed else 1), done.stdout
    assert ("1 rerun" in done.stdout) == (runs == 2)


@pytest.mark.parametrize(("count", "passed"), [(RERUNS_MAX, True), (RERUNS_MAX + 1, False)])
def test_a_tier_with_many_tests_run_again_fails(
    tmp_path: Path, count: int, *, passed: bool
) -> None:
    done = run_pytest(tmp_path, MANY.format(count=count))
    assert f"{count} passed" in done.stdout, done.stdout
    assert done.returncode == (0 if passed else 1)
    assert ("the tier fails" in done.stdout) != passed


def run_pytest(directory: Path, source: str) -> subprocess.CompletedProcess[str]:
    """Run one file of tests with this project's settings."""
    path = directory / "test_it.py"
    path.write_text(source)
    argv = [
        *(sys.executable, "-m", "pytest", "-q", "-c", str(ROOT / "pyproject.toml")),
        *("-p", "tests.conftest", "-p", "no:cacheprovider", f"--rootdir={directory}", str(path)),
    ]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
