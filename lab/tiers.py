"""The test tiers: each a directory of tests, run by pytest in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from lab.image import ensure_image
from lab.paths import BUILD, LOGS, ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """A directory below ``tests/``; one that boots guests needs root and an image."""

    name: str
    guests: bool = False
    workers: int = 1
    """How many tests run side by side, each with a guest or two of its own: an emulated guest
    keeps about one processor busy."""
    shares: bool = True
    """Whether the tests of a file share a guest, and so a worker."""
    when: str = ""
    """Of a tier that runs only when it is named: for what."""


TIERS = (
    Tier(name="lint"),
    Tier(name="unit"),
    Tier(name="guest", guests=True, workers=2),
    Tier(name="vm", guests=True, workers=2),
    Tier(name="sriov", guests=True),
    Tier(name="images", guests=True, workers=2, shares=False, when="before a release"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a tier; ``summary`` reads as pytest's last line does."""

    passed: bool
    summary: str


def run_tiers(names: Sequence[str], pytest_arguments: Sequence[str] = ()) -> int:
    """Run the named tiers (all for none), print one closing line for each, return the exit code.

    A tier that cannot run here is said to be skipped, and fails where CI=true. Those that run
    only by name are left out of "all", which is said as well.
    """
    every = {tier.name for tier in TIERS if not tier.when}
    wanted = set(names) - {"all"} | (every if not names or "all" in names else set())
    results = {tier.name: _run(tier, pytest_arguments) for tier in TIERS if tier.name in wanted}
    print()
    for name, result in results.items():
        print(f"{name}: {result.summary}")
    if len(results) > 1:
        for tier in TIERS:
            if tier.name not in wanted and tier.when:
                print(f"{tier.name}: not asked for; {tier.when}: ./dev test {tier.name}")
    return 0 if all(result.passed for result in results.values()) else 1


def _run(tier: Tier, pytest_arguments: Sequence[str]) -> Result:
    if tier.guests and os.geteuid() != 0:
        in_ci = os.environ.get("CI", "").lower() in {"1", "true"}
        return Result(passed=not in_ci, summary="skipped: needs root")
    begin = time.monotonic()
    print(f"\n{tier.name}: begins", flush=True)
    if tier.guests:
        ensure_image()
    LOGS.mkdir(parents=True, exist_ok=True)
    report = LOGS / f"{tier.name}.xml"
    report.unlink(missing_ok=True)
    argv = [
        *(sys.executable, "-m", "pytest", f"tests/{tier.name}", f"--junitxml={report}"),
        *("-o", f"cache_dir={BUILD / 'cache' / 'pytest'}", *_side_by_side(tier, pytest_arguments)),
        *pytest_arguments,
    ]
    code = subprocess.run(argv, cwd=ROOT, check=False).returncode
    counts = _counts(report) if report.exists() else "no report"
    return Result(
        passed=code == 0,
        summary=f"{counts} in {time.monotonic() - begin:.2f}s"
        + ("" if code in {0, 1} else f", pytest exit code {code}"),
    )


def _side_by_side(tier: Tier, pytest_arguments: Sequence[str]) -> list[str]:
    """Return what makes pytest run tests side by side; ``-s`` wants to see one after the other."""
    workers = min(tier.workers, os.cpu_count() or 1)
    if workers == 1 or "-s" in pytest_arguments:
        return []
    spread = ["loadfile", "--no-loadscope-reorder"] if tier.shares else ["worksteal"]
    return ["-n", str(workers), "--dist", *spread]


def _counts(report: Path) -> str:
    """Return ``3 failed, 12 passed`` from a JUnit report that our own pytest wrote."""
    suite = ET.parse(report).getroot().find("testsuite")  # noqa: S314 - our own file
    if suite is None:
        return "no tests"
    total, failed, errors, skipped = (
        int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")
    )
    counts = {
        "failed": failed,
        "passed": total - failed - errors - skipped,
        "skipped": skipped,
        "errors": errors,
    }
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "no tests"
