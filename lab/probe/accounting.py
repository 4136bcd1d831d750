"""Account of lost packets: matches the records of sender and receiver, with times. Pure."""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

# A guest's clock is compared with the host's over this much time before and after a packet: long
# enough to meet one packet that was not delayed, short against a drift of the clocks.
NEIGHBOURHOOD_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A time in which the guest did not run, and its clock stood still; host's clock."""

    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """One packet that was sent and did not arrive."""

    sequence: int
    sent_at_s: float
    """Host's CLOCK_MONOTONIC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """One direction of one protocol."""

    name: str
    sent: int
    duplicates: int
    lost: tuple[Loss, ...]
    sent_at_s: tuple[float, ...] = field(default=(), repr=False)
    """By sequence number; ascending, host's CLOCK_MONOTONIC."""
    repeated_at_s: tuple[float, ...] = ()
    """When the packets that arrived more than once were sent; once for each duplicate."""

    def lost_between(self, begin_s: float, end_s: float) -> tuple[Loss, ...]:
        """Return the packets that were sent in ``[begin_s, end_s)`` and lost."""
        return tuple(loss for loss in self.lost if begin_s <= loss.sent_at_s < end_s)

    def sent_between(self, begin_s: float, end_s: float) -> int:
        """Return how many packets were sent in ``[begin_s, end_s)``."""
        return sum(begin_s <= at_s < end_s for at_s in self.sent_at_s)

    def duplicates_between(self, begin_s: float, end_s: float) -> int:
        """Return the number of duplicates of packets that were sent in ``[begin_s, end_s)``."""
        return sum(begin_s <= at_s < end_s for at_s in self.repeated_at_s)


def account(name: str, sent_at_s: Sequence[float], received: Sequence[int]) -> Flow:
    """Compare the packets sent (times by sequence number) with the numbers that arrived."""
    counts = Counter(received)
    lost = tuple(
        Loss(sequence=sequence, sent_at_s=at_s)
        for sequence, at_s in enumerate(sent_at_s)
        if sequence not in counts
    )
    return Flow(
        name=name,
        sent=len(sent_at_s),
        duplicates=sum(counts.values()) - len(counts),
        lost=lost,
        sent_at_s=tuple(sent_at_s),
        repeated_at_s=tuple(
            sent_at_s[sequence]
            for sequence, count in sorted(counts.items())
            for _ in range(count - 1)
        ),
    )


def longest_gap_ms(losses: Sequence[Loss], rate_hz: float) -> float:
    """Return the longest time in which every packet sent was lost, in milliseconds.

    One lost packet counts for the time until the next one, ``1/rate_hz``.
    """
    longest = run = 0
    previous: Loss | None = None
    for loss in sorted(losses, key=lambda loss: loss.sequence):
        follows = previous is not None and loss.sequence == previous.sequence + 1
        run = run + 1 if follows else 1
        longest = max(longest, run)
        previous = loss
    return longest * 1000 / rate_hz


class ClockMap:
    """Maps a guest's clock to the host's, by packets whose times at both ends are known.

    The offset is the least ``arrived - sent`` of the neighbouring packets: of the one that was
    delayed least. While a guest is paused its clock stands still, so each pause begins an epoch
    with an offset of its own. The epoch of a time is the first one that it does not lie beyond the
    end of.
    """

    def __init__(
        self,
        sent_s: Sequence[float],
        arrived_s: Sequence[float],
        *,
        pauses: Sequence[Pause] = (),
    ) -> None:
        """``sent_s`` is by the guest's clock, ``arrived_s`` by the host's, packet by packet.

        :raise ValueError: there is no packet.
        """
        packets = sorted(zip(sent_s, arrived_s, strict=True))
        if not packets:
            raise ValueError("no packet to compare the clocks by")
        ends = [*sorted(pause.begin_s for pause in pauses), math.inf]
        self._epochs = []
        begin_s = -math.inf
        for end_s in ends:
            inside = [packet for packet in packets if begin_s < packet[1] <= end_s]
            if inside:
                self._epochs.append(_Epoch(end_s=end_s, packets=inside))
            begin_s = end_s

    def host_s(self, guest_s: float) -> float:
        """Return the host's time for a time of the guest."""
        for epoch in self._epochs:
            host_s = guest_s + epoch.offset_s(guest_s)
            if host_s <= epoch.end_s:
                break
        return host_s


@dataclass(frozen=True, slots=True, kw_only=True)
class _Epoch:
    """A time between two pauses; ``packets`` are (sent, arrived), ascending, at least one."""

    end_s: float
    packets: Sequence[tuple[float, float]]

    def offset_s(self, guest_s: float) -> float:
        begin = bisect.bisect_left(self.packets, guest_s - NEIGHBOURHOOD_S, key=_sent)
        end = bisect.bisect_right(self.packets, guest_s + NEIGHBOURHOOD_S, key=_sent)
        if begin == end:  # none near: the nearest on one side
            begin = min(begin, len(self.packets) - 1)
            end = begin + 1
        return min(arrived - sent for sent, arrived in self.packets[begin:end])


def _sent(packet: tuple[float, float]) -> float:
    return packet[0]
