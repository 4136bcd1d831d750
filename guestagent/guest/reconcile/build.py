"""Construction of the engine from the real adapters; no other module knows all of them."""

from __future__ import annotations

from collections.abc import Callable

from guestagent.guest.core.policy import Policy
from guestagent.guest.kernel import packet
from guestagent.guest.kernel.netlink import NetlinkKernel
from guestagent.guest.kernel.udev import UdevDatabase
from guestagent.guest.reconcile.apply import Applier
from guestagent.guest.reconcile.engine import ConvergeResult, Engine
from guestagent.guest.reconcile.observe import UDEV_GRACE_S, Observer
from guestagent.guest.reconcile.stability import Stability
from guestagent.guest.stacks.registry import make_stacks
from guestagent.guest.state.holds import Holds
from guestagent.guest.state.known_pairs import PairStore
from guestagent.guest.state.undone_pairs import UndonePairs


def make_engine(
    policy: Policy,
    stability: Stability,
    *,
    udev_grace_s: float = UDEV_GRACE_S,
    undone: Callable[[], frozenset[str]] | None = None,
) -> Engine:
    """Return an engine on the real system; call it in the thread that will own it."""
    kernel = NetlinkKernel()
    observer = make_observer(kernel, stability, udev_grace_s=udev_grace_s, undone=undone)
    applier = Applier(
        kernel=kernel, stacks=make_stacks(), remember=PairStore().add, send=packet.send
    )
    return Engine(policy=policy, kernel=kernel, observer=observer, applier=applier)


def make_observer(
    kernel: NetlinkKernel,
    stability: Stability,
    *,
    udev_grace_s: float = UDEV_GRACE_S,
    undone: Callable[[], frozenset[str]] | None = None,
) -> Observer:
    """Return an observer of the real system on an open kernel."""
    return Observer(
        kernel=kernel,
        udev=UdevDatabase(),
        stacks=make_stacks(),
        remembered=PairStore().load,
        undone=undone or UndonePairs().current,
        stability=stability,
        udev_grace_s=udev_grace_s,
    )


def look_once(
    policy: Policy, undone: Callable[[], frozenset[str]] | None = None
) -> ConvergeResult:
    """Observe and plan once, changing nothing; a NIC of unknown age counts as settled."""
    engine = make_engine(policy, Stability(), udev_grace_s=0, undone=undone)
    try:
        return engine.look(Holds().current())
    finally:
        engine.close()
