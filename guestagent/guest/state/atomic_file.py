"""Atomic replacement of files."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: str, *, mode: int = 0o644) -> None:
    """Replace a file so that a crash leaves the old content or the new. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
