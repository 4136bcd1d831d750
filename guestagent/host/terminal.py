"""Formatting for terminals: colours and sizes."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def size(count: float) -> str:
    """Return a number of bytes with its unit."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def coloured(text: str, code: int, *, stream: TextIO = sys.stdout) -> str:
    """Return ``text`` in an ANSI colour, unless disabled (https://no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain or not stream.isatty() else f"\x1b[{code}m{text}\x1b[0m"
