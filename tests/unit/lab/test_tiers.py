"""Which tiers run for which words, and that those left out are said."""

from __future__ import annotations

import pytest

from lab import tiers
from lab.tiers import Result, Tier

CI = ["lint", "unit", "guest", "vm"]


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
