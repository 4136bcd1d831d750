"""Creation of the bonds at boot, before a network stack configures a NIC.

Bounded in time. A failure leaves the NICs to their network stack, and the service
goes on from the state that it finds. While udev names the NICs, this process
imports its slow modules.
"""

from __future__ import annotations

import logging
import subprocess

from guestagent.guest.core.journal_ids import JournalId, fields
from guestagent.guest.core.policy import Policy

_log = logging.getLogger("guestagent.early")


def make_bonds(policy: Policy, *, udev_timeout_s: int) -> None:
    """Make the bond of every pair that is present or remembered. Raises the first failure.

    A NIC with which udev has not finished within ``udev_timeout_s`` is left alone.
    """
    # Drivers may be loading and NICs may be renamed: both end with udev's queue.
    with subprocess.Popen(["udevadm", "settle", f"--timeout={udev_timeout_s}"]) as settle:
        from guestagent.guest.reconcile.build import make_engine
        from guestagent.guest.reconcile.stability import Stability

        engine = make_engine(policy, Stability(), udev_grace_s=0)
        settle.wait()
    if settle.returncode != 0:
        _log.warning(
            "udev has not finished within %d s: a NIC that it has not named yet is left to"
            " guestagent.service (see --udev-timeout in guestagent(8))",
            udev_timeout_s,
        )
    try:
        result = engine.converge()
    finally:
        engine.close()
    for item in result.plan.refusals:
        extra = fields(JournalId.LEFT_ALONE, PAIR=item.mac)
        _log.warning("%s is left alone: %s; %s", item.mac, item.reason, item.hint, extra=extra)
    if result.error is not None:
        raise result.error
