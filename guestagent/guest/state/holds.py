"""Holds: requests to keep a pair on the standby, each with an end.

A hold expires, so a host that died never leaves a guest on the slow path. Holds are
in ``/run/guestagent/leases.json`` in seconds of the guest's monotonic clock, which
goes on through a restart of the agent and through a migration and starts anew with
a boot, as the file does.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from guestagent.clock import Clock
from guestagent.files import read_file
from guestagent.guest.core.journal_ids import JournalId, fields
from guestagent.guest.state.atomic_file import write_document
from guestagent.json_fields import JsonError, Obj

RUNTIME_DIR = Path("/run/guestagent")
DEFAULT_HOLD_S = 120.0
MAX_HOLD_S = 3600.0
_log = logging.getLogger("guestagent.leases")


class Holds:
    """The holds of this boot, by MAC."""

    def __init__(self, directory: Path = RUNTIME_DIR, clock: Clock = time.monotonic) -> None:
        self._path = directory / "leases.json"
        self._clock = clock
        self._until_s = self._load()

    def hold(self, mac: str, seconds: float) -> None:
        """Hold a pair on the standby from now on for ``seconds``, in place of an earlier hold.

        Raises OSError if the file cannot be written; the hold is then as before.
        """
        changed = {**self._until_s, mac: self._clock() + seconds}
        self._save(changed)
        self._until_s = changed

    def end(self, mac: str) -> None:
        """End a hold, if there is one. Raises OSError."""
        if mac in self._until_s:
            changed = {key: value for key, value in self._until_s.items() if key != mac}
            self._save(changed)
            self._until_s = changed

    def current(self) -> frozenset[str]:
        """Return the MACs with a hold; log the holds that have expired."""
        now = self._clock()
        for mac in [mac for mac, until in self._until_s.items() if until <= now]:
            _log.info(
                "the hold on the standby has expired",
                extra=fields(JournalId.HOLD_ENDED, PAIR=mac),
            )
            del self._until_s[mac]
        return frozenset(self._until_s)

    def remaining_s(self, mac: str) -> float | None:
        """Return the remaining seconds of a hold, or None without one."""
        until = self._until_s.get(mac)
        return None if until is None else max(0.0, until - self._clock())

    @property
    def next_s(self) -> float | None:
        """Seconds until the first hold ends, or None."""
        left = [self.remaining_s(mac) for mac in self._until_s]
        return min((seconds for seconds in left if seconds is not None), default=None)

    def _load(self) -> dict[str, float]:
        try:
            items = Obj.parse(read_file(self._path)).objects("leases")
            leases = {item.string("mac"): item.number("until_s") for item in items}
        except FileNotFoundError:
            return {}
        except (OSError, JsonError) as error:
            _log.warning("%s cannot be read (%s), ignoring: no hold", self._path, error)
            return {}
        # An expired hold stays in the file until the next write; its end has been logged.
        now = self._clock()
        return {mac: until for mac, until in leases.items() if until > now}

    def _save(self, leases: dict[str, float]) -> None:
        items = [{"mac": mac, "until_s": until} for mac, until in leases.items()]
        write_document(self._path, {"version": 1, "leases": items}, mode=0o600)
