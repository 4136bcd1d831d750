"""Words that must not get into the repository."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

FORBIDDEN = {
    re.compile(r"(?<![\w.$}])/(?:home/\w+|root|work)/\w"): "a path of one person's machine",
    re.compile(r"https?://(?!deb\.debian\.org/)[\w.-]+/debian\b"): (
        "a package mirror other than deb.debian.org"
    ),
    re.compile(r"\b(?:FIX[M]E|XX[X])\b"): "unfinished work",
}


def word_findings(root: Path, texts: Iterable[tuple[Path, str]]) -> list[str]:
    """Return the places of forbidden words, one a line."""
    return [
        f"{path.relative_to(root)}:{number}: {found.group()!r}: {why}"
        for path, text in texts
        for number, line in enumerate(text.splitlines(), start=1)
        for pattern, why in FORBIDDEN.items()
        if (found := pattern.search(line))
    ]
