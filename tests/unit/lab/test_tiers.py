"""Which tiers run for which words, and that those left out are said."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from lab import tiers
from lab.tiers import Result, Tier

CI = ["lint", "unit", "guest", "vm", "sriov"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], CI),
        (["all"], CI),
        (["all", "images"], [*CI, "images"]),
        (["images", "lint"], ["lint", "images"]),
    ],
)
def test_all_is_what_decides_and_a_named_tier_comes_on_top(
    words: list[str],
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ran: list[str] = []

    def run(tier: Tier, _: object) -> Result:
        ran.append(tier.name)
        return Result(passed=True, summary="1 passed")

    monkeypatch.setattr(tiers, "_run", run)
    assert tiers.run_tiers(words) == 0
    assert ran == expected
    assert ("images: not asked for" in capsys.readouterr().out) == ("images" not in expected)


@pytest.mark.parametrize(
    ("workers", "processors", "arguments", "expected"),
    [(2, 8, [], "2"), (2, 1, [], None), (2, 8, ["-s"], None), (1, 8, [], None)],
)
def test_tests_run_side_by_side_where_processors_and_the_reader_allow_it(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    workers: int,
    processors: int,
    arguments: list[str],
    expected: str | None,
) -> None:
    seen: list[list[str]] = []

    def run(argv: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        seen.append(argv)
        return subprocess.CompletedProcess(argv, 0)

    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(tiers, "LOGS", tmp_path)
    assert tiers._run(Tier(name="x", workers=workers), arguments).passed
    (argv,) = seen
    assert (argv[argv.index("-n") + 1] if "-n" in argv else None) == expected
