"""When a NIC appeared in a guest and when it was used, from ``ip -ts -d -o monitor link``. Pure.

``ip`` prints the guest's time at which it reads each message of the kernel. The bond tells of
its new active port with a message of its own (K: net/core/rtnetlink.c, rtnetlink_event,
NETDEV_BONDING_FAILOVER); net_failover sends by a VF as soon as that is its port and has a
carrier (K: drivers/net/net_failover.c, net_failover_xmit_ready).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

MONITOR = "ip -ts -d -o monitor link"

_LINE = re.compile(
    r"\[(?P<time>[^]]+)\]\s*(?P<deleted>Deleted )?(?P<index>\d+): (?P<name>[^:@ ]+)[^<]*"
    r"<(?P<flags>[^>]*)>(?P<rest>.*)"
)
_ACTIVE = re.compile(r" active_slave (\S+)")
_UPPER = re.compile(r" master (\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEvent:
    """One message of the kernel about a link."""

    at_s: float
    ifindex: int
    name: str
    carrier: bool
    upper: str | None
    """Of a port."""
    active_port: str | None
    """Of a bond."""


def parse(text: str) -> Iterator[LinkEvent]:
    """Yield what the monitor printed; links that went are left out."""
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None or match["deleted"]:
            continue
        active, upper = _ACTIVE.search(match["rest"]), _UPPER.search(match["rest"])
        yield LinkEvent(
            at_s=datetime.fromisoformat(match["time"]).timestamp(),
            ifindex=int(match["index"]),
            name=match["name"],
            carrier="LOWER_UP" in match["flags"].split(","),
            upper=upper[1] if upper else None,
            active_port=active[1] if active else None,
        )


def appear_ms(text: str, *, ifindex: int) -> float | None:
    """Return the time from the first message about a VF until a bond or net_failover used it.

    A bond names its active port, by whatever name ``ip`` knew first. VFs that come at once are
    called eth0 in turn, until udev gets to them: it must be the bond that the VF is a port of.
    """
    events = list(parse(text))
    bonded = any(event.active_port for event in events)
    begin_s: float | None = None
    names: set[str] = set()
    upper: str | None = None
    for event in events:
        own = event.ifindex == ifindex
        if own:
            begin_s = event.at_s if begin_s is None else begin_s
            names.add(event.name)
            upper = event.upper
        used = own and upper is not None and event.carrier
        if bonded:
            used = event.name == upper and event.active_port in names
        if begin_s is not None and used:
            return (event.at_s - begin_s) * 1000
    return None
