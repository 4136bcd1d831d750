"""A migration cut into phases without gap or overlap, and the losses of each."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from lab.migration.host_helper import Report
from lab.probe.accounting import longest_gap_ms
from lab.probe.probe import Result

# A request that was sent less than a round trip before the guest stops is answered by nobody,
# and the first packets after it runs again find it with cold caches.
ROUND_TRIP_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPhase:
    """A stretch of time (host's clock) and the losses among packets sent in it."""

    name: str
    begin_s: float
    end_s: float
    lost: int
    """Packets of all flows."""
    longest_gap_ms: float
    """The longest time in which one flow lost every packet."""


def phases_of(
    result: Result, helper: Report, *, margin_s: float = ROUND_TRIP_S
) -> tuple[LossPhase, ...]:
    """Cut the time of the probe into the phases of a migration.

    ``before``, ``switch`` (the guest leaves the VF), ``unplug`` (the VF goes), ``move`` (the
    memory), ``downtime`` (from ``margin_s`` before the source stops to that after the destination
    runs), ``arrive``, ``plug`` (the VF comes, until the bond uses it), ``after``. Phases that did
    not take place are left out.
    """
    names = {span.name for span in helper.phases}
    cuts = [("before", result.begin_s)]
    if "switch" in names:
        cuts.append(("switch", helper.phase("switch").begin_s))
    if "detach" in names:
        cuts.append(("unplug", helper.phase("detach").begin_s))
        cuts.append(("move", helper.phase("detach").end_s))
    if helper.downtime is not None:
        cuts.append(("downtime", helper.downtime.begin_s - margin_s))
        cuts.append(("arrive", helper.downtime.end_s + margin_s))
    if "attach" in names:
        attach = helper.phase("attach")
        used_s = [
            port.at_s
            for port in result.active_ports
            if port.kind == "vf" and port.at_s > attach.begin_s
        ]
        cuts.append(("plug", attach.begin_s))
        cuts.append(("after", max(attach.end_s, *used_s[:1])))
    cuts.append(("", result.end_s))
    # The VF may be plugged within a round trip of the guest's arrival: that stays downtime.
    begins_s = itertools.accumulate((begin_s for _, begin_s in cuts), max)
    clean = [(name, begin_s) for (name, _), begin_s in zip(cuts, begins_s, strict=True)]
    return tuple(
        _phase(result, name, begin_s, end_s)
        for (name, begin_s), (_, end_s) in itertools.pairwise(clean)
        if begin_s < end_s
    )


def _phase(result: Result, name: str, begin_s: float, end_s: float) -> LossPhase:
    lost = [flow.lost_between(begin_s, end_s) for flow in result.flows]
    return LossPhase(
        name=name,
        begin_s=begin_s,
        end_s=end_s,
        lost=sum(len(losses) for losses in lost),
        longest_gap_ms=max(longest_gap_ms(losses, result.rate_hz) for losses in lost),
    )
