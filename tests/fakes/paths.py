"""A path watch whose gateway does as the test says."""

from __future__ import annotations

from collections.abc import Callable

from guestagent.clock import Clock
from guestagent.guest.core.pair import Role
from guestagent.guest.core.policy import HealthOptions
from guestagent.guest.service.path_monitor import PathMonitor, WatchedPair

MAC = "52:54:00:00:00:01"


def on_vf(vf: int = 3) -> tuple[WatchedPair, ...]:
    """Return bond0 on its VF."""
    return (WatchedPair(mac=MAC, bond="bond0", ifindex=4, role=Role.VF, vf=vf),)


def watch(
    clock: Clock, *, reached: bool = True, pairs: Callable[[], tuple[WatchedPair, ...]] = on_vf
) -> PathMonitor:
    """Return a watch over bond0 on its VF, or ``pairs``, whose gateway answers or does not."""

    async def asked(_: int) -> bool:
        return True

    async def answered(_: int) -> bool:
        return reached

    return PathMonitor(
        options=HealthOptions(gateway=True),
        pairs=pairs,
        solicit=asked,
        reached=answered,
        changed=lambda: None,
        clock=clock,
        verdict_s=0,
    )
