"""Atomic replacement of files."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path

from guestagent.files import MAX_FILE_BYTES


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


def write_document(
    path: Path, document: Mapping[str, object], *, indent: int | None = None, mode: int = 0o644
) -> None:
    """Replace a JSON file, in a directory that is made if need be.

    Raises OSError, also when the file would be longer than ``files.read_file`` reads.
    """
    content = json.dumps(document, indent=indent) + "\n"
    if len(content) > MAX_FILE_BYTES:
        raise OSError(errno.EFBIG, f"{path}: more than {MAX_FILE_BYTES} bytes")
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_whole(path, content, mode=mode)
