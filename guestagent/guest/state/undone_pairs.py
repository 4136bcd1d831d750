"""The pairs that ``guestagent undo`` took apart: left alone until they are adopted again.

``/run/guestagent/released.json``::

    {"version": 1, "released": ["52:54:00:12:34:56"]}

It is written before the first step of an undo, so that an agent that is killed half way goes on
with it. A reboot removes it: the next boot bonds the pairs again.
"""

from __future__ import annotations

import logging
from collections.abc import Set as AbstractSet
from pathlib import Path

from guestagent.files import read_file
from guestagent.guest.state.atomic_file import write_document
from guestagent.guest.state.holds import RUNTIME_DIR
from guestagent.json_fields import JsonError, Obj

_log = logging.getLogger("guestagent.released")


class UndonePairs:
    """The file of undone pairs, read at each call because another process may write it."""

    def __init__(self, directory: Path = RUNTIME_DIR) -> None:
        self._path = directory / "released.json"

    def current(self) -> frozenset[str]:
        """Return the MACs; none when the file is absent or unreadable."""
        try:
            return frozenset(Obj.parse(read_file(self._path)).strings("released"))
        except FileNotFoundError:
            return frozenset()
        except (OSError, JsonError) as error:
            _log.warning("cannot read %s (%s), ignoring: no pair is undone", self._path, error)
            return frozenset()

    def add(self, macs: AbstractSet[str]) -> None:
        """Add pairs. Raises OSError; none is added then."""
        self._save(self.current() | macs)

    def remove(self, macs: AbstractSet[str]) -> None:
        """Remove pairs, so that they are bonded again. Raises OSError."""
        self._save(self.current() - macs)

    def _save(self, macs: AbstractSet[str]) -> None:
        write_document(self._path, {"version": 1, "released": sorted(macs)})
