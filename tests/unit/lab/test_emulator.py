"""A test that the emulator ended is run once more; a test that failed is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lab.emulator import fault
from lab.paths import ROOT

STOOD_STILL = "[   41.2] rcu: rcu_preempt kthread timer wakeup didn't happen for 21003 jiffies!"
ENDED = "qemu: ../system/physmem.c:672: iotlb_to_section: Assertion `index < d->nb' failed."
TEST = """
import pytest
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
    assert guest not in {fails}
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
    ("faults", "fails", "runs", "passed"),
    [
        ([1], [1], 2, True),
        ([], [1], 1, False),
        ([1, 2], [1, 2], 2, False),
    ],
    ids=["fault", "failure", "fault-twice"],
)
def test_a_test_is_run_again_for_a_fault_alone(
    tmp_path: Path, phase: str, faults: list[int], fails: list[int], runs: int, *, passed: bool
) -> None:
    seen = tmp_path / "seen"
    source = TEST.format(seen=str(seen), line=STOOD_STILL, faults=faults, fails=fails, phase=phase)
    path = tmp_path / "test_it.py"
    path.write_text(source)
    argv = [
        *(sys.executable, "-m", "pytest", "-q", "-c", str(ROOT / "pyproject.toml")),
        *("-p", "tests.conftest", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(path)),
    ]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (len(seen.read_text()), done.returncode) == (runs, 0 if passed else 1), done.stdout
    assert ("1 rerun" in done.stdout) == (runs == 2)
