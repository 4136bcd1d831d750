"""Which pairs were taken apart: kept in a file that may be absent or damaged."""

from __future__ import annotations

from pathlib import Path

from guestagent.guest.released import ReleasedPairs

MAC = "52:54:00:00:00:01"


def test_what_is_noted_is_known_to_everybody_until_it_is_taken_back(tmp_path: Path) -> None:
    assert ReleasedPairs(tmp_path).current() == frozenset()
    ReleasedPairs(tmp_path).add({MAC})
    ReleasedPairs(tmp_path).add({"other"})
    assert ReleasedPairs(tmp_path).current() == {MAC, "other"}
    ReleasedPairs(tmp_path).remove({"other", "unknown"})
    assert ReleasedPairs(tmp_path).current() == {MAC}


def test_a_damaged_file_releases_nothing(tmp_path: Path) -> None:
    (tmp_path / "released.json").write_text('{"released": 1}')
    assert ReleasedPairs(tmp_path).current() == frozenset()
