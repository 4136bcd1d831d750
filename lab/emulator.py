"""What an emulated machine does wrong by itself, as its logs tell.

A test that such a fault ended says nothing about the product. Both signs are rare (about one
guest in three hundred) and were seen in tests that changed nothing between two runs.
"""

from __future__ import annotations

import re
from pathlib import Path

# By the log in which it stands. QEMU ends by an assertion of its own, for instance
# `iotlb_to_section: Assertion section_index < d->map.sections_nb` (Q: system/physmem.c); and a
# guest whose timer interrupt was lost stands still (K: kernel/rcu/tree_stall.h,
# rcu_check_gp_kthread_expired_fqs_timer).
_SIGNS = {
    "*-qemu.log": re.compile(r".*\bAssertion\b.*\bfailed\b.*"),
    "*-serial.log": re.compile(r".*kthread timer wakeup didn't happen.*"),
}


class EmulatorFault(Exception):  # noqa: N818 - it is no error of the product or of the lab
    """QEMU ended by its own fault, or its guest missed a timer, or was not done in time."""


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
