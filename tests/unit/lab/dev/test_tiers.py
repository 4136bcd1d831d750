"""The words of ``./dev``: which tiers run for which of them, and that those left out are named."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from guestagent.errors import SystemLacksError
from lab.dev import commands, tiers
from lab.dev.prepare import Need
from lab.dev.tiers import Result, Tier

CI = ["lint", "unit", "trixie", "guest", "vm", "sriov"]


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


def test_a_run_ends_with_the_time_of_each_tier(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tiers, "_run", lambda *_: Result(passed=True, summary="1 passed in 2.00s"))
    tiers.run_tiers([])
    lines = capsys.readouterr().out.splitlines()
    assert [f"{name}: 1 passed in 2.00s" for name in CI] == lines[1 : len(CI) + 1]
    assert lines[len(CI) + 1].startswith("all of these: ")


def test_a_tier_that_cannot_be_made_fails_and_the_others_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(tier: Tier, _: object) -> int:
        if tier.suite:
            raise SystemLacksError("mmdebstrap failed")
        return 0

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(tiers, "_run_tests", run)
    monkeypatch.setattr(tiers, "_counts", lambda _: "1 passed")
    assert tiers.run_tiers([]) == 1
    out = capsys.readouterr().out
    assert "trixie: not run: mmdebstrap failed" in out
    assert "sriov: begins" in out


@pytest.mark.parametrize("words", [["tests"], ["test", "units"], ["test", "unit", "-k", "plan"]])
def test_an_unknown_word_prints_the_usage_and_does_nothing(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "prepare", lambda _: pytest.fail("prepares"))
    assert commands.main(words) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"{commands.usage()}\n")


@pytest.mark.parametrize("words", [[], ["help"], ["-h"], ["--help"]])
def test_help_prints_the_usage_and_does_nothing(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "prepare", lambda _: pytest.fail("prepares"))
    assert commands.main(words) == 0
    assert capsys.readouterr().out == f"{commands.usage()}\n"


def test_the_usage_lists_each_command_and_each_tier() -> None:
    listed = {line.split()[0] for line in commands.usage().splitlines() if line.startswith("  ")}
    assert {*commands.COMMANDS, *(tier.name for tier in tiers.TIERS)} <= listed


def test_what_needs_root_says_so_without_it_and_tiers_that_do_are_left_for_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared: list[object] = []
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "execv", _run_instead)
    monkeypatch.setattr(commands, "VENV", Path("nowhere"))
    monkeypatch.setattr(commands, "prepare", prepared.append)
    assert commands.main(["demo"]) == 1
    assert capsys.readouterr().err == "dev: demo needs root\ndev: run: sudo ./dev demo\n"
    with pytest.raises(SystemExit):
        commands.main(["test", "unit", "lint", "guest"])
    assert prepared == [{Need.LINT}]


def _run_instead(*_: object) -> None:
    raise SystemExit
