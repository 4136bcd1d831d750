"""Files of a bounded length, and directories that are synchronised."""

from __future__ import annotations

import os
from pathlib import Path

from guestagent.json_fields import JsonError

MAX_FILE_BYTES = 1024 * 1024
"""Of a file that is read whole, such as a lease; the journal has limits of its own."""


def read_file(path: Path, most_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Return the content of a file. Raises OSError, and JsonError when it is longer."""
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise JsonError(f"is longer than {most_bytes} bytes")
    return content


def sync_directory(directory: Path) -> None:
    """Make new and removed names in a directory durable. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
