"""Which adapter stands behind which Protocol: the only place that knows all of them."""

from __future__ import annotations

import time

from guestagent.guest.core.model import Policy
from guestagent.guest.kernel import packet
from guestagent.guest.kernel.netlink import NetlinkKernel
from guestagent.guest.kernel.udev import UdevDatabase
from guestagent.guest.reconcile.apply import Applier
from guestagent.guest.reconcile.engine import Engine, Outcome
from guestagent.guest.reconcile.observe import UDEV_GRACE_S, Moments, Observer, Released
from guestagent.guest.stacks.registry import make_stacks
from guestagent.guest.state.holds import Leases
from guestagent.guest.state.known_pairs import PairStore
from guestagent.guest.state.undone_pairs import ReleasedPairs


def make_moments() -> Moments:
    """Return the memory of moments that an engine and its loop share."""
    return Moments(time.monotonic)


def make_engine(
    policy: Policy,
    moments: Moments,
    *,
    udev_grace_s: float = UDEV_GRACE_S,
    released: Released | None = None,
) -> Engine:
    """Return an engine on the real system; call it in the thread that will own it."""
    kernel = NetlinkKernel()
    observer = make_observer(kernel, moments, udev_grace_s=udev_grace_s, released=released)
    applier = Applier(kernel=kernel, stacks=make_stacks(), memory=PairStore(), send=packet.send)
    return Engine(policy=policy, kernel=kernel, observer=observer, applier=applier)


def make_observer(
    kernel: NetlinkKernel,
    moments: Moments,
    *,
    udev_grace_s: float = UDEV_GRACE_S,
    released: Released | None = None,
) -> Observer:
    """Return an observer of the real system that asks a kernel that is open already."""
    return Observer(
        kernel=kernel,
        udev=UdevDatabase(),
        stacks=make_stacks(),
        memory=PairStore(),
        released=released or ReleasedPairs(),
        moments=moments,
        udev_grace_s=udev_grace_s,
    )


def look_once(policy: Policy, released: Released | None = None) -> Outcome:
    """Observe and plan once, changing nothing; a NIC of unknown age counts as finished."""
    engine = make_engine(policy, make_moments(), udev_grace_s=0, released=released)
    try:
        return engine.look(Leases().current())
    finally:
        engine.close()
