"""A change of a configuration file is noticed without reading it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from guestagent.guest.stacks.file_cache import CachedFiles, fingerprint_of

SUFFIX = ".network"


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "50-lan.network.d").mkdir()
    (tmp_path / "50-lan.network.d" / "more.conf").write_text("one")
    (tmp_path / "50-lan.network").write_text("one")
    (tmp_path / "50-lan.link").write_text("one")
    return tmp_path


def rewrite(path: Path) -> None:
    """Write other content of the same size, at another time of the file system's clock."""
    before = path.stat().st_mtime_ns
    while path.stat().st_mtime_ns == before:
        path.write_text("two")


def replace(path: Path) -> None:
    """Put another file of the same size and time in its place."""
    status = path.stat()
    other = path.with_name("other")
    other.write_text("two")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda etc: rewrite(etc / "50-lan.network"),
        lambda etc: replace(etc / "50-lan.network"),
        lambda etc: (etc / "50-lan.network").unlink(),
        lambda etc: (etc / "60-new.network").write_text(""),
        lambda etc: rewrite(etc / "50-lan.network.d" / "more.conf"),
        lambda etc: (etc / "50-lan.network.d" / "new.conf").write_text(""),
    ],
    ids=["rewritten", "replaced", "removed", "added", "drop-in", "new-drop-in"],
)
def test_every_change_makes_a_difference(etc: Path, change: Callable[[Path], object]) -> None:
    before = fingerprint_of([etc, etc / "absent"], SUFFIX)
    assert fingerprint_of([etc], SUFFIX) == before
    change(etc)
    assert fingerprint_of([etc], SUFFIX) != before


def test_other_files_and_links_that_lead_nowhere_make_none(etc: Path) -> None:
    before = fingerprint_of([etc], SUFFIX)
    (etc / "99-new.link").write_text("new")
    (etc / "99-nowhere.network").symlink_to("absent")
    assert fingerprint_of([etc], SUFFIX) == before


def test_files_are_read_again_only_when_they_have_changed(etc: Path) -> None:
    lan, read = etc / "50-lan.network", list[str]()

    def content() -> str:
        read.append(lan.read_text())
        return read[-1]

    files = CachedFiles(lambda: fingerprint_of([etc], SUFFIX), content)
    assert [files.current(), files.current()] == ["one", "one"]
    assert read == ["one"]
    rewrite(lan)
    assert [files.current(), files.current()] == ["two", "two"]
    assert read == ["one", "two"]
