"""rtnetlink's events: only a request for announcements is read from them."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from guestagent.guest.kernel.events import announcement_requests


def message(ifindex: int, *, event: int | None, kind: int = 16) -> bytes:
    attrs = struct.pack("=HH", 8, 4) + struct.pack("=I", 1500)
    if event is not None:
        attrs += struct.pack("=HHI", 8, 44, event)
    body = struct.pack("=BxHiII", 0, 1, ifindex, 0, 0) + attrs
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def test_notify_peers_is_found_among_other_messages() -> None:
    data = message(2, event=None) + message(3, event=4) + message(4, event=2)
    assert announcement_requests(data) == {3}


def test_a_link_that_goes_asks_for_nothing() -> None:
    assert announcement_requests(message(3, event=4, kind=17)) == set()


@given(st.binary(max_size=200), st.integers(min_value=0, max_value=60))
def test_no_bytes_break_the_reader(noise: bytes, cut: int) -> None:
    announcement_requests(noise)
    announcement_requests(message(3, event=4)[:cut])
    announcement_requests(message(3, event=4) + noise)
