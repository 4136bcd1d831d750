"""The pairs that were seen before, on disk, for a boot without the VF.

``/var/lib/guestagent/pairs.json``::

    {"version": 1, "pairs": [{"mac": "52:54:00:12:34:56", "bond": "bond0"}]}

It records the operator's network and no state of the kernel: whether a pair or its
bond exists is read at each observation. A file that cannot be read is reported and
counts as empty; it is replaced as a whole, so a crash leaves the old or the new one.
"""

from __future__ import annotations

import logging
from pathlib import Path

from guestagent.codec import members
from guestagent.files import read_file
from guestagent.guest.core.snapshot import RememberedPair
from guestagent.guest.state.atomic_file import write_document
from guestagent.json_fields import JsonError, Obj

STATE_DIR = Path("/var/lib/guestagent")
_log = logging.getLogger("guestagent.remembered")


class PairStore:
    """The file of remembered pairs."""

    def __init__(self, directory: Path = STATE_DIR) -> None:
        self._path = directory / "pairs.json"

    def load(self) -> tuple[RememberedPair, ...]:
        """Return the remembered pairs, none when the file is absent or unreadable."""
        try:
            pairs = Obj.parse(read_file(self._path)).objects("pairs")
            return tuple(members(RememberedPair, pair) for pair in pairs)
        except FileNotFoundError:
            return ()
        except OSError as error:
            _log.warning("cannot read %s: %s, ignoring", self._path, error)
            return ()
        except JsonError as error:
            _log.warning("%s is damaged (%s), ignoring; it is written anew", self._path, error)
            return ()

    def add(self, item: RememberedPair) -> None:
        """Remember a pair in place of an earlier one with its MAC. Raises OSError."""
        kept = [known for known in self.load() if known.mac != item.mac]
        self._save((*kept, item))

    def _save(self, pairs: tuple[RememberedPair, ...]) -> None:
        content = {"version": 1, "pairs": [{"mac": p.mac, "bond": p.bond} for p in pairs]}
        write_document(self._path, content, indent=1)
