"""Where memory goes, and what must stay as it is over many cycles."""

from __future__ import annotations

from dataclasses import replace

from lab.bench.crowd import summary
from lab.bench.soak import GROWTH_KIB, Sample, complaints
from lab.probe.usage import Usage, by_kind

SMAPS = """\
00400000-00420000 r--p 00000000 fe:00 1234                               /usr/bin/python3.13
Size:                128 kB
Rss:                 100 kB
Pss:                  50 kB
7f0000000000-7f0000100000 rw-p 00000000 00:00 0
Rss:                 512 kB
7f0000200000-7f0000300000 rw-p 00000000 00:00 0                          [heap]
Rss:                 256 kB
7f0000400000-7f0000500000 r-xp 00000000 fe:00 99                         /usr/lib/libc.so.6
Rss:                 300 kB
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
Rss:                  12 kB
"""
FIRST = Sample(
    cycles=50,
    usage=Usage(resident_kib=30_000, descriptors=15, wakeups=9),
    options="mode active-backup 1",
)


def test_resident_memory_is_summed_up_by_kind() -> None:
    assert by_kind(SMAPS) == {
        "Python's objects and code": 768,
        "libraries": 300,
        "the interpreter": 100,
        "the rest": 12,
    }


def test_more_wakeups_and_a_little_memory_are_no_complaint() -> None:
    usage = Usage(resident_kib=30_000 + GROWTH_KIB, descriptors=15, wakeups=999)
    assert list(complaints([FIRST, replace(FIRST, cycles=100, usage=usage)])) == []


def test_memory_descriptors_and_options_that_change_are_complained_of() -> None:
    usage = Usage(resident_kib=30_001 + GROWTH_KIB, descriptors=16, wakeups=9)
    later = replace(FIRST, cycles=100, usage=usage, options="mode balance-rr 0")
    found = list(complaints([FIRST, later]))
    assert [text.startswith("after 100 cycles") for text in found] == [True] * 3


def test_the_slowest_of_many_pairs_is_told() -> None:
    assert summary({3: 900.0, 4: 700.0, 5: 1500.0}) == (
        "3 pairs, from netdev to active: first 700 ms, median 900, last 1500"
    )
