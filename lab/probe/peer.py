"""The peer's side of the probe, a program that runs in the peer's namespace.

One thread does everything, slot by slot, so that nothing holds up anything else. It is told on
stdin, a word a line, and answers each with the same word, the last one with a JSON object:

- ``send``: connect by TCP and begin to send.
- ``stop``: send no more; packets under way still count.
- ``close``: receive the rest of the TCP stream, for ``REST_S`` at most, and close the connection,
  before the guest's side ends.
- ``report``: write down everything and end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import socket
import struct
import sys
import time
from array import array
from dataclasses import dataclass, field

from lab.guestside.probing import (
    HEADER,
    PACKET_BYTES,
    TCP_PORT,
    Pacer,
    Sender,
    encode,
    family_of,
    packet,
    udp_socket,
    widen,
)

DRAIN_INTERVAL_S = 0.02
IDLE_S = 0.005

ECHO_REQUEST = {socket.AF_INET: 8, socket.AF_INET6: 128}
ECHO_REPLY = {socket.AF_INET: 0, socket.AF_INET6: 129}
ECHO_PROTOCOL = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}
IDENTIFIER = 0x6761

# The kernel's time of arrival, CLOCK_REALTIME (include/uapi/asm-generic/socket.h): it stays
# exact although we look only now and then.
SO_TIMESTAMPNS = 35
TIMESPEC = struct.Struct("@qq")

TCP_CHUNK = bytes(512)

# After a gap TCP tries again only when as much time has passed again, and a guest that is emulated
# beside another may take seconds for what lies in between.
REST_S = 20.0
CONNECT_S = 60.0


class Echo:
    """Sends numbered ICMP echo requests and collects the replies."""

    def __init__(self, local: str, remote: str) -> None:
        self._family = family_of(remote)
        self._socket = socket.socket(self._family, socket.SOCK_RAW, ECHO_PROTOCOL[self._family])
        widen(self._socket)
        self._socket.bind((local, 0))
        self._socket.settimeout(0)
        self._remote = (remote, 0)
        self.sent_ns = array("q")
        self.replies = array("q")

    def send(self) -> None:
        """Send one request; one that the kernel refuses counts as sent and is lost."""
        now = time.monotonic_ns()
        sequence = len(self.sent_ns)
        self.sent_ns.append(now)
        head = struct.pack(
            "!BBHHH", ECHO_REQUEST[self._family], 0, 0, IDENTIFIER, sequence & 0xFFFF
        )
        data = head + packet(sequence, now)
        with contextlib.suppress(OSError):
            self._socket.sendto(data[:2] + _checksum(data) + data[4:], self._remote)

    def drain(self) -> None:
        """Take all replies that have arrived."""
        # IPv4 raw sockets deliver the IP header, IPv6 ones do not (raw(7), RFC 3542).
        skip = 20 if self._family == socket.AF_INET else 0
        reply = ECHO_REPLY[self._family]
        with contextlib.suppress(BlockingIOError):
            while True:
                data = self._socket.recv(2048)
                if data[skip] == reply and len(data) >= skip + 8 + PACKET_BYTES:
                    self.replies.append(HEADER.unpack_from(data, skip + 8)[0])


def _checksum(data: bytes) -> bytes:
    """Return the internet checksum of an even number of bytes (RFC 1071)."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


class Arrivals:
    """Packets from the guest: number, time of sending in the guest, time of arrival."""

    def __init__(self, udp: socket.socket) -> None:
        self._udp = udp
        udp.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.sequences = array("q")
        self.sent_ns = array("q")
        self.arrived_ns = array("q")

    def drain(self) -> None:
        """Take all packets that have arrived."""
        to_monotonic_ns = time.monotonic_ns() - time.time_ns()
        with contextlib.suppress(BlockingIOError):
            while True:
                data, ancillary, _, _ = self._udp.recvmsg(PACKET_BYTES, 64)
                sequence, sent_ns = HEADER.unpack_from(data)
                seconds, nanoseconds = TIMESPEC.unpack(ancillary[0][2])
                self.sequences.append(sequence)
                self.sent_ns.append(sent_ns)
                self.arrived_ns.append(seconds * 1_000_000_000 + nanoseconds + to_monotonic_ns)


@dataclass(slots=True)
class Stream:
    """A TCP connection that the guest echoes: how much came back, and the longest wait for it."""

    connection: socket.socket
    sent: int = 0
    received: int = 0
    error: str = ""
    """Error that ended it early."""
    longest_stall_ns: int = 0
    longest_stall_at_ns: int = 0
    _open: bool = True
    _last_ns: int = field(default_factory=time.monotonic_ns)

    @property
    def complete(self) -> bool:
        """Whether every byte has come back."""
        return self.received == self.sent

    def send(self) -> None:
        """Send one chunk, as far as the buffer takes it."""
        try:
            self.sent += self.connection.send(TCP_CHUNK)
        except BlockingIOError:
            pass
        except OSError as error:
            self.error = self.error or str(error)

    def close(self) -> None:
        """Close it; what has not come back by now has not survived."""
        self._open = False
        self.connection.close()

    def drain(self) -> None:
        """Receive echoed bytes. Time in which no echo is outstanding is no stall."""
        if not self._open:
            return
        now = time.monotonic_ns()
        if self.complete:
            self._last_ns = now
        try:
            data = self.connection.recv(1 << 20)
            if not data:
                self.error = self.error or "the guest closed it"
        except BlockingIOError:
            data = b""
        except OSError as error:
            data = b""
            self.error = self.error or str(error)
        if now - self._last_ns > self.longest_stall_ns:
            self.longest_stall_ns = now - self._last_ns
            self.longest_stall_at_ns = self._last_ns
        if data:
            self.received += len(data)
            self._last_ns = now


class Peer:
    """All streams of the peer, and the words that steer them."""

    def __init__(self, *, local: str, remote: str, rate_hz: float, chunks_hz: float) -> None:
        self._rate_hz = rate_hz
        self._chunks_hz = chunks_hz
        self._remote = remote
        udp = udp_socket(local)
        self._echo = Echo(local, remote)
        self._sender = Sender(udp, remote)
        self._arrivals = Arrivals(udp)
        self._stream: Stream | None = None
        self._pacer: Pacer | None = None
        self._chunks: Pacer | None = None

    def run(self) -> None:
        """Send and drain until the word ``report``."""
        drained_s = 0.0
        while True:
            if select.select([sys.stdin], [], [], 0)[0]:
                word = sys.stdin.readline().strip()
                if word == "send":
                    self._begin()
                elif word == "stop":
                    self._pacer = self._chunks = None
                elif word == "close" and self._stream is not None:
                    self._take_the_rest(self._stream)
                else:
                    break
                print(word, flush=True)
            if time.monotonic() - drained_s >= DRAIN_INTERVAL_S:
                self._drain()
                drained_s = time.monotonic()
            self._send_what_is_due()
            time.sleep(self._pacer.wait_s() if self._pacer else IDLE_S)
        self._drain()
        print(json.dumps(self._report()), flush=True)

    def _begin(self) -> None:
        connection = socket.create_connection((self._remote, TCP_PORT), timeout=CONNECT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(0)
        self._stream = Stream(connection)
        self._pacer = Pacer(self._rate_hz)
        self._chunks = Pacer(self._chunks_hz)

    def _send_what_is_due(self) -> None:
        for _ in range(self._pacer.due() if self._pacer else 0):
            self._echo.send()
            self._sender.send()
        for _ in range(self._chunks.due() if self._chunks else 0):
            if self._stream is not None:
                self._stream.send()

    def _take_the_rest(self, stream: Stream) -> None:
        end_s = time.monotonic() + REST_S
        while not (stream.complete or stream.error) and time.monotonic() < end_s:
            self._drain()
            time.sleep(IDLE_S)
        stream.close()

    def _drain(self) -> None:
        self._echo.drain()
        self._arrivals.drain()
        if self._stream is not None:
            self._stream.drain()

    def _report(self) -> dict[str, object]:
        stream = self._stream
        if stream is None:
            raise SystemExit("told to report before it was told to send")
        return {
            "icmp_sent_ns": encode(self._echo.sent_ns),
            "icmp_replies": encode(self._echo.replies),
            "udp_sent_ns": encode(self._sender.sent_ns),
            "arrived": encode(self._arrivals.sequences),
            "arrived_guest_ns": encode(self._arrivals.sent_ns),
            "arrived_ns": encode(self._arrivals.arrived_ns),
            "tcp_sent": stream.sent,
            "tcp_echoed": stream.received,
            "tcp_error": stream.error,
            "tcp_longest_stall_ns": stream.longest_stall_ns,
            "tcp_longest_stall_at_ns": stream.longest_stall_at_ns,
        }


def main() -> None:
    """Take the options from the command line and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--local", required=True)
    parser.add_argument("--remote", required=True)
    parser.add_argument("--rate-hz", type=float, required=True)
    parser.add_argument("--chunks-hz", type=float, required=True)
    options = parser.parse_args()
    # Ahead of the emulated guests: a probe that is late would see gaps of its own making.
    os.nice(-10)
    peer = Peer(
        local=options.local,
        remote=options.remote,
        rate_hz=options.rate_hz,
        chunks_hz=options.chunks_hz,
    )
    print("ready", flush=True)
    peer.run()


if __name__ == "__main__":
    main()
