"""At boot, before any network stack configures a NIC: make the bonds once.

Bounded in time; whatever fails leaves the NICs to their network stack, and
the service goes on from whatever was done.
"""

from __future__ import annotations

import logging
import subprocess

from guestagent.guest.model import Policy
from guestagent.guest.wiring import make_engine, make_moments

SETTLE_TIMEOUT_S = 3
_log = logging.getLogger("guestagent.early")


def make_bonds(policy: Policy) -> None:
    """Make the bond of every pair that is present or remembered. Raises the first failure."""
    _settle()
    engine = make_engine(policy, make_moments(), udev_grace_s=0)
    try:
        outcome = engine.converge()
    finally:
        engine.close()
    for item in outcome.plan.refusals:
        _log.warning("%s is left alone: %s; %s", item.mac, item.reason, item.hint)
    if outcome.error is not None:
        raise outcome.error


def _settle() -> None:
    """Wait until udev has named the NICs that are there, for SETTLE_TIMEOUT_S at most."""
    command = ["udevadm", "settle", f"--timeout={SETTLE_TIMEOUT_S}"]
    try:
        subprocess.run(command, check=False, timeout=SETTLE_TIMEOUT_S + 1)
    except (OSError, subprocess.TimeoutExpired) as error:
        _log.warning("udevadm settle: %s, ignoring", error)
