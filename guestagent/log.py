"""Logging for both programs: the journal with fields where there is one, stderr elsewhere.

Fields are passed as ``extra={"BOND": …, "LINK": …, "PAIR": …, "ACTION": …,
"MIGRATION": …}`` and can then be searched with ``journalctl BOND=bond0``.
"""

from __future__ import annotations

import logging
import os
import sys


def setup(*, verbose: bool = False) -> None:
    """Send records of level INFO (DEBUG with ``verbose``) to the journal or to stderr.

    systemd sets JOURNAL_STREAM for a service whose output goes to the journal
    (systemd.exec(5)); python3-systemd then adds the fields. Without that
    library the same text goes to stderr with a ``<N>`` priority prefix
    (sd-daemon(3)), which the journal understands.
    """
    root = logging.getLogger("guestagent")
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    root.handlers[:] = [_handler()]
    root.propagate = False


def _handler() -> logging.Handler:
    if "JOURNAL_STREAM" not in os.environ:
        handler: logging.Handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        return handler
    try:
        from systemd.journal import JournalHandler
    except ImportError:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_PriorityFormatter())
        return handler
    journal: logging.Handler = JournalHandler(SYSLOG_IDENTIFIER="guestagent")
    return journal


class _PriorityFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        priority = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4}.get(record.levelno, 3)
        return f"<{priority}>{super().format(record)}"
