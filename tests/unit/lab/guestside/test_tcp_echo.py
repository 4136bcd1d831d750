"""The probe's echo gives back every byte, and waits for nobody."""

from __future__ import annotations

import selectors
import socket

from lab.guestside.probing import TcpEcho


def test_a_peer_that_does_not_read_holds_nothing_up_and_gets_every_byte_later() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, selectors.DefaultSelector() as selector:
        TcpEcho(ours, selector)
        theirs.setblocking(False)
        sent = bytearray()
        while len(sent) < 4 << 20:
            chunk = (len(sent) // 4096).to_bytes(4, "big") * 1024
            try:
                sent += chunk[: theirs.send(chunk)]
            except BlockingIOError:
                serve(selector)
        came = bytearray()
        while len(came) < len(sent):
            serve(selector)
            try:
                came += theirs.recv(1 << 20)
            except BlockingIOError:
                continue
        assert came == sent


def test_a_connection_that_ended_is_let_go() -> None:
    ours, theirs = socket.socketpair()
    with ours, selectors.DefaultSelector() as selector:
        TcpEcho(ours, selector)
        theirs.close()
        serve(selector)
        assert (ours.fileno(), len(selector.get_map())) == (-1, 0)


def serve(selector: selectors.BaseSelector) -> None:
    for key, _ in selector.select(0):
        key.data()
