"""The test tiers: each some directories of tests, run by pytest in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from guestagent.errors import GuestAgentError
from lab.base.paths import BUILD, LOGS, ROOT
from lab.dev.chroot import Chroot
from lab.dev.prepare import Need
from lab.image.build import ensure_image

ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """Tests that run together. Those that boot guests, or need a chroot, need root."""

    name: str
    help: str = ""
    directories: tuple[str, ...] = ()
    """Below ``tests/``; none stands for the tier's own name."""
    guests: bool = False
    suite: str = ""
    """The Debian release in whose chroot the tests run; none stands for this system."""
    needs: frozenset[Need] = frozenset()
    workers: int = 1
    """How many tests run side by side, each with a guest or two of its own: an emulated guest
    keeps about one processor busy."""
    shares: bool = True
    """Whether the tests of a file share a guest, and so a worker."""
    when: str = ""
    """Of a tier that runs only when it is named: for what."""

    @property
    def needs_root(self) -> bool:
        """Whether the tier makes guests or a chroot."""
        return self.guests or bool(self.suite)

    @property
    def paths(self) -> tuple[str, ...]:
        """The directories of its tests, from the root of the checkout."""
        return tuple(f"tests/{name}" for name in self.directories or (self.name,))


LAB = frozenset({Need.LAB})
CHROOT = frozenset({Need.CHROOT})
TIERS = (
    Tier(name="lint", help="linters, structure, manuals, packaging", needs=frozenset({Need.LINT})),
    Tier(name="unit", help="no root, no guest", workers=2, shares=False),
    Tier(
        name="trixie",
        help="unit and lint in a chroot, on Debian 13's Python",
        directories=("unit", "lint"),
        suite="trixie",
        needs=CHROOT,
        workers=2,
        shares=False,
    ),
    Tier(name="guest", help="in one QEMU guest", guests=True, needs=LAB, workers=2),
    Tier(name="vm", help="two QEMUs and a migration", guests=True, needs=LAB, workers=2),
    Tier(name="sriov", help="real VFs, in a guest inside a guest", guests=True, needs=LAB),
    Tier(
        name="images",
        help="each network stack of Debian 12 and 13, half an hour",
        guests=True,
        needs=LAB,
        workers=2,
        shares=False,
        when="before a release",
    ),
    Tier(
        name="forky",
        help="unit and lint in a chroot, on Debian testing's Python",
        directories=("unit", "lint"),
        suite="forky",
        needs=CHROOT,
        workers=2,
        shares=False,
        when="before a release",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The outcome of a tier; ``summary`` reads as pytest's last line does."""

    passed: bool
    summary: str


def chosen(names: Sequence[str]) -> tuple[Tier, ...]:
    """Return the named tiers in their order; "all", or no name, is those that run unasked."""
    unasked = {tier.name for tier in TIERS if not tier.when}
    wanted = set(names) - {ALL} | (unasked if not names or ALL in names else set())
    return tuple(tier for tier in TIERS if tier.name in wanted)


def run_tiers(names: Sequence[str], pytest_arguments: Sequence[str] = ()) -> int:
    """Run tiers, print one closing line with its time for each, return the exit code.

    A tier that cannot run here is reported as skipped, and fails where CI=true. Those that run
    only by name are left out of "all", which is reported as well.
    """
    tiers = chosen(names)
    begin = time.monotonic()
    results = {tier.name: _run(tier, pytest_arguments) for tier in tiers}
    print()
    for name, result in results.items():
        print(f"{name}: {result.summary}")
    if len(results) > 1:
        print(f"all of these: {time.monotonic() - begin:.0f}s")
        for tier in TIERS:
            if tier not in tiers and tier.when:
                print(f"{tier.name}: not asked for; {tier.when}: ./dev test {tier.name}")
    return 0 if all(result.passed for result in results.values()) else 1


def in_ci() -> bool:
    """Whether this run decides if a change lands; then a tier that cannot run is a failure."""
    return os.environ.get("CI", "").lower() in {"1", "true"}


def _run(tier: Tier, pytest_arguments: Sequence[str]) -> Result:
    if tier.needs_root and os.geteuid() != 0:
        return Result(passed=not in_ci(), summary="skipped: needs root")
    begin = time.monotonic()
    print(f"\n{tier.name}: begins", flush=True)
    try:
        code = _run_tests(tier, pytest_arguments)
    except GuestAgentError as error:
        return Result(passed=False, summary=f"not run: {error}")
    report = _report_of(tier)
    counts = _counts(report) if report.exists() else "no report"
    return Result(
        passed=code == 0,
        summary=f"{counts} in {time.monotonic() - begin:.2f}s"
        + ("" if code in {0, 1} else f", pytest exit code {code}"),
    )


def _run_tests(tier: Tier, pytest_arguments: Sequence[str]) -> int:
    """Make what the tier needs and run pytest; return its exit code.

    :raise GuestAgentError: an image or a chroot cannot be made.
    """
    if tier.guests:
        ensure_image()
    LOGS.mkdir(parents=True, exist_ok=True)
    report = _report_of(tier)
    report.unlink(missing_ok=True)
    arguments = [*_side_by_side(tier, pytest_arguments), *pytest_arguments]
    run = _run_in_chroot if tier.suite else _run_here
    return run(tier, report, arguments)


def _report_of(tier: Tier) -> Path:
    return LOGS / f"{tier.name}.xml"


def _run_here(tier: Tier, report: Path, arguments: Sequence[str]) -> int:
    argv = [
        *(sys.executable, "-m", "pytest", *tier.paths, f"--junitxml={report}"),
        *("-o", f"cache_dir={BUILD / 'cache' / 'pytest'}", *arguments),
    ]
    return subprocess.run(argv, cwd=ROOT, check=False).returncode


def _run_in_chroot(tier: Tier, report: Path, arguments: Sequence[str]) -> int:
    chroot = Chroot(tier.suite)
    tree = chroot.copy_tree()
    code = chroot.run_python(
        [
            "-m",
            "pytest",
            *tier.paths,
            "--junitxml=report.xml",
            "-p",
            "no:cacheprovider",
            *arguments,
        ]
    )
    if (tree / "report.xml").exists():
        (tree / "report.xml").replace(report)
    return code


def _side_by_side(tier: Tier, pytest_arguments: Sequence[str]) -> list[str]:
    """Return the options that run tests side by side; ``-s`` wants to see one after the other."""
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
