"""At boot, before any network stack configures a NIC: make the bonds once.

Bounded in time; whatever fails leaves the NICs to their network stack, and
the service goes on from whatever was done. While udev names the NICs, the
modules that take long to load are loaded.
"""

from __future__ import annotations

import logging
import subprocess

from guestagent.guest.messages import Message, fields
from guestagent.guest.model import Policy

SETTLE_TIMEOUT_S = 2
_log = logging.getLogger("guestagent.early")


def make_bonds(policy: Policy) -> None:
    """Make the bond of every pair that is present or remembered. Raises the first failure."""
    # Drivers may be loading and NICs may be renamed: both end with udev's queue.
    with subprocess.Popen(["udevadm", "settle", f"--timeout={SETTLE_TIMEOUT_S}"]) as settle:
        from guestagent.guest.wiring import make_engine, make_moments

        engine = make_engine(policy, make_moments(), udev_grace_s=0)
        settle.wait()
    try:
        outcome = engine.converge()
    finally:
        engine.close()
    for item in outcome.plan.refusals:
        told = fields(Message.LEFT_ALONE, PAIR=item.mac)
        _log.warning("%s is left alone: %s; %s", item.mac, item.reason, item.hint, extra=told)
    if outcome.error is not None:
        raise outcome.error
