"""Faults of the emulated machine itself, by its logs and by how QEMU ended.

A test that such a fault ended says nothing about the product. All signs are rare (about one guest
in three hundred) and were seen in tests that changed nothing between two runs.
"""

from __future__ import annotations

import re
import signal
from pathlib import Path

# By the log in which it stands. QEMU ends by an assertion of its own, for instance
# `iotlb_to_section: Assertion section_index < d->map.sections_nb` (Q: system/physmem.c); and a
# guest whose timer interrupt was lost stands still (K: kernel/rcu/tree_stall.h,
# rcu_check_gp_kthread_expired_fqs_timer).
_SIGNS = {
    "*-qemu.log": re.compile(r".*\bAssertion\b.*\bfailed\b.*"),
    "*-serial.log": re.compile(r".*kthread timer wakeup didn't happen.*"),
}


_LAST_LINES = 15


class EmulatorFault(Exception):  # noqa: N818 - it is no error of the product or of the lab
    """QEMU ended by its own fault, or its guest missed a timer, or was not done in time."""


class QemuEndedFault(EmulatorFault):
    """QEMU ended while its guest booted, when nothing but the boot was under way."""


def fault(logs: Path) -> str | None:
    """Return the line that tells of a fault in the logs of one test's machines, if there is one.

    :param logs: the directory that ``Machine`` writes its logs to.
    """
    for pattern, sign in _SIGNS.items():
        for path in sorted(logs.glob(pattern)):
            found = sign.search(path.read_text(errors="replace"))
            if found:
                return f"{path.name}: {found[0].strip()}"
    return None


def epitaph(code: int | None, *, qemu_log: Path, serial_log: Path) -> str:
    """Describe the end of a QEMU: its exit code or signal, and the last lines of both logs.

    :param code: as ``subprocess.Popen.returncode`` has it; None while the process runs.
    """
    if code is None:
        how = "QEMU runs on with its sockets closed"
    elif code < 0:
        how = f"QEMU was ended by {signal.Signals(-code).name}"
    else:
        how = f"QEMU ended with exit code {code}"
    parts = [how]
    # The first line of QEMU's log is its command line.
    for path, first in ((qemu_log, 1), (serial_log, 0)):
        text = path.read_text(errors="replace") if path.exists() else ""
        lines = text.splitlines()[first:][-_LAST_LINES:]
        parts.append(f"{path} ends with: " + ("\n".join(["", *lines]) if lines else "nothing"))
    return "\n".join(parts)
