"""A path watch whose gateway does as the test says."""

from __future__ import annotations

from guestagent.clock import Clock
from guestagent.guest.model import HealthOptions, Side
from guestagent.guest.pathwatch import PathWatch, WatchedPair

MAC = "52:54:00:00:00:01"


def watch(clock: Clock, *, reached: bool = True) -> PathWatch:
    """Return a watch over bond0 on its VF whose gateway answers or does not."""

    async def answer(_: int) -> bool:
        return reached

    pair = WatchedPair(mac=MAC, bond="bond0", ifindex=4, side=Side.VF)
    return PathWatch(
        options=HealthOptions(gateway=True),
        pairs=lambda: (pair,),
        solicit=answer,
        reached=answer,
        changed=lambda: None,
        clock=clock,
        verdict_s=0,
    )
