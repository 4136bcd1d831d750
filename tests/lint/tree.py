"""The files of the repository, as the lint tests look at them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOT_OURS = {".git", "build", "__pycache__"}
SHIPPED = ROOT / "guestagent"


def files(top: Path = ROOT) -> Iterator[Path]:
    """Yield the files below ``top`` without build outputs and caches, in a stable order."""
    for path in sorted(top.iterdir()):
        if path.name in NOT_OURS or path.name.endswith((".egg-info", "_cache")):
            continue
        if path.is_dir():
            if not path.is_symlink() and path.name != ".hypothesis":
                yield from files(path)
        else:
            yield path


def text_files(top: Path = ROOT) -> Iterator[tuple[Path, str]]:
    """Yield the files that are text, with their text."""
    for path in files(top):
        try:
            yield path, path.read_text()
        except UnicodeDecodeError:
            continue


def python_files(top: Path = ROOT) -> list[Path]:
    """Return the Python modules below ``top``."""
    return [path for path in files(top) if path.suffix == ".py"]


def shell_scripts(top: Path = ROOT) -> list[Path]:
    """Return the shell scripts below ``top``: those that say so in their first line."""
    marks = ("#!/bin/sh", "#!/bin/bash", "#!/usr/bin/env bash", "# shellcheck shell=")
    return [path for path, text in text_files(top) if text.startswith(marks)]
