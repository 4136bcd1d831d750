"""Files of the pairs that were seen or undone, which may be absent or damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from guestagent.guest.core.snapshot import RememberedPair
from guestagent.guest.state.known_pairs import PairStore
from guestagent.guest.state.undone_pairs import UndonePairs

MAC = "52:54:00:00:00:01"


def test_undone_pairs_are_seen_by_every_reader_until_they_are_removed(tmp_path: Path) -> None:
    assert UndonePairs(tmp_path).current() == frozenset()
    UndonePairs(tmp_path).add({MAC})
    UndonePairs(tmp_path).add({"other"})
    assert UndonePairs(tmp_path).current() == {MAC, "other"}
    UndonePairs(tmp_path).remove({"other", "unknown"})
    assert UndonePairs(tmp_path).current() == {MAC}


@pytest.mark.parametrize("content", [b'{"released": 1}', b"\xff\xfe\x00"])
def test_a_damaged_file_means_no_undone_pair(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "released.json").write_bytes(content)
    assert UndonePairs(tmp_path).current() == frozenset()


@pytest.mark.parametrize("content", [b'{"pairs": [{"mac": 5}]}', b"\xff\xfe\x00", b""])
def test_a_damaged_file_means_no_remembered_pair_and_is_replaced(
    content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "pairs.json").write_bytes(content)
    assert PairStore(tmp_path).load() == ()
    pair = RememberedPair(mac=MAC, bond="bond0")
    PairStore(tmp_path).add(pair)
    assert PairStore(tmp_path).load() == (pair,)
