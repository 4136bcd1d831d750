"""The peer's TCP connection: what has come back, and what ended it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from lab.probe.peer import Stream

Ends = tuple[Stream, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, guests = socket.socketpair()
    ours.setblocking(False)
    with ours, guests:
        yield Stream(ours), guests


def test_it_is_complete_when_every_byte_has_come_back(ends: Ends) -> None:
    stream, guest = ends
    stream.send()
    assert not stream.complete
    echo = guest.recv(65536)
    guest.sendall(echo[:100])
    stream.drain()
    assert (stream.received, stream.complete) == (100, False)
    guest.sendall(echo[100:])
    stream.drain()
    assert (stream.complete, stream.error) == (True, "")


def test_the_longest_wait_for_an_echo_is_kept(ends: Ends) -> None:
    stream, guest = ends
    stream.send()
    stream.drain()
    waited_ns = stream.longest_stall_ns
    stream.drain()
    assert stream.longest_stall_ns > waited_ns > 0
    guest.sendall(guest.recv(65536))
    stream.drain()
    longest_ns = stream.longest_stall_ns
    for _ in range(3):
        stream.drain()
    assert stream.longest_stall_ns == longest_ns, "all was echoed: nothing to wait for"


def test_a_connection_that_the_guest_ends_says_so(ends: Ends) -> None:
    stream, guest = ends
    stream.send()
    guest.recv(65536)
    guest.close()
    stream.drain()
    assert stream.error == "the guest closed it"
    stream.send()
    assert stream.error == "the guest closed it", "the first cause is kept"


def test_a_connection_that_breaks_on_sending_says_why(ends: Ends) -> None:
    stream, guest = ends
    guest.close()
    stream.send()
    assert "Broken pipe" in stream.error
