"""The guest's side of the probe (lab/probe/probe.py), and what both sides have in common.

Standard library only. As a program it binds its sockets, goes to the background and returns; on
SIGTERM, from the moment on in which it has returned, it writes what it saw to ``RESULT`` as one
JSON object.

All packets carry a sequence number and the sender's CLOCK_MONOTONIC in nanoseconds. A sender
notes the time of each; a receiver drains its large socket buffer a few times a second, because
under emulation a wake-up for every packet would cost more than the packet.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import selectors
import signal
import socket
import struct
import time
import zlib
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

UDP_PORT = 9000  # both directions: each side sends from it and receives on it
TCP_PORT = 9001
RESULT = Path("/run/lab-probe.json")
PID = Path("/run/lab-probe.pid")

HEADER = struct.Struct("!QQ")  # sequence number, time of sending in ns
PACKET_BYTES = 64
BUFFER_BYTES = 32 << 20

# A sender that was held up sends what became due meanwhile, if that is not more than this;
# beyond (a stopped guest) the slots count as not sent.
CATCH_UP_S = 0.1
DRAIN_INTERVAL_S = 0.1

# SO_TIMESTAMPNS and the forced buffer sizes (include/uapi/asm-generic/socket.h): not in Python.
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33


class Pacer:
    """Says how many packets are due, at a fixed rate from its creation."""

    def __init__(self, rate_hz: float, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._period_ns = 1e9 / rate_hz
        self._clock_ns = clock_ns
        self._begin_ns = clock_ns()
        self._next = 0

    def due(self) -> int:
        """Return the number of packets to send now."""
        now = int((self._clock_ns() - self._begin_ns) / self._period_ns)
        if (now - self._next) * self._period_ns > CATCH_UP_S * 1e9:
            self._next = now
        count = now - self._next + 1
        self._next = max(self._next, now + 1)
        return max(0, count)

    def wait_s(self) -> float:
        """Return the time until the next packet is due."""
        at_ns = self._begin_ns + self._next * self._period_ns
        return max(0.0, (at_ns - self._clock_ns()) / 1e9)


def packet(sequence: int, sent_ns: int) -> bytes:
    """Return the payload of one packet."""
    return HEADER.pack(sequence, sent_ns).ljust(PACKET_BYTES, b"\0")


def udp_socket(local: str) -> socket.socket:
    """Return a bound socket with buffers for minutes of packets (root only)."""
    udp = socket.socket(family_of(local), socket.SOCK_DGRAM)
    widen(udp)
    udp.bind((local, UDP_PORT))
    udp.settimeout(0)
    return udp


def widen(sock: socket.socket) -> None:
    """Give a socket buffers beyond the system's limit."""
    sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)


def family_of(address: str) -> socket.AddressFamily:
    """Return the family of a numeric address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def encode(numbers: array[int]) -> str:
    """Return an array of 64-bit integers as text for JSON; ``decode`` is the inverse."""
    return base64.b64encode(zlib.compress(numbers.tobytes(), 1)).decode()


def decode(text: str) -> array[int]:
    """Return the array that ``encode`` was given."""
    return array("q", zlib.decompress(base64.b64decode(text)))


def unsent_replies(directory: Path = Path("/proc/net")) -> int:
    """Return how many echo replies (and other ICMP messages) this kernel could not send.

    It has one socket for them on each CPU, whose buffer holds some 150 of ours. A guest that was
    not run for a while gets more requests than that in one burst; it answers as many as fit and
    drops the rest, which no other flow knows (K: net/ipv4/icmp.c, icmp_init and icmp_push_reply;
    net/ipv6/icmp.c (6.12)).
    """
    names, values = [
        line.split()
        for line in (directory / "snmp").read_text().splitlines()
        if line.startswith("Icmp:")
    ]
    lines = (directory / "snmp6").read_text().splitlines()
    ipv6 = dict(line.split() for line in lines)
    return int(values[names.index("OutErrors")]) + int(ipv6["Icmp6OutErrors"])


class Sender:
    """Sends numbered packets to one address and notes when."""

    def __init__(self, udp: socket.socket, address: str) -> None:
        self._udp = udp
        self._target = (address, UDP_PORT)
        self.sent_ns = array("q")

    def send(self) -> None:
        """Send one packet; one that the kernel refuses counts as sent and is lost."""
        now = time.monotonic_ns()
        data = packet(len(self.sent_ns), now)
        self.sent_ns.append(now)
        # No route, no buffer: the sender of a real program loses it as well.
        with contextlib.suppress(OSError):
            self._udp.sendto(data, self._target)


def run_sender(sender: Sender, rate_hz: float, *, running: Callable[[], bool]) -> None:
    """Send at a fixed rate while ``running``."""
    pacer = Pacer(rate_hz)
    while running():
        for _ in range(pacer.due()):
            sender.send()
        time.sleep(pacer.wait_s())


class ActivePort:
    """Watches which port of the bond with a MAC address is active."""

    def __init__(self, mac: str) -> None:
        self._mac = mac
        self._bond: Path | None = None
        self._last: str | None = None
        self.changes: list[tuple[int, str, str]] = []

    def sample(self) -> None:
        """Note time, name and driver of the active port if it is another one than before.

        Name and driver are empty without a bond or without an active port.
        """
        name = self._read()
        if name != self._last:
            self._last = name
            driver = Path(f"/sys/class/net/{name}/device/driver").resolve().name
            self.changes.append((time.monotonic_ns(), name, driver if name else ""))

    def _read(self) -> str:
        if self._bond is None:
            self._bond = self._find()
        if self._bond is None:
            return ""
        try:
            return (self._bond / "bonding/active_slave").read_text().strip()
        except OSError:
            self._bond = None
            return ""

    def _find(self) -> Path | None:
        for bonding in Path("/sys/class/net").glob("*/bonding"):
            try:
                if (bonding.parent / "address").read_text().strip() == self._mac:
                    return bonding.parent
            except OSError:
                continue
        return None


class TcpEcho:
    """Sends back what a connection brings, and never waits for it to be taken.

    A connection that stalls for a second fills its buffer in the kernel; one that waited there
    would not see the packets, the active port and SIGTERM meanwhile.
    """

    def __init__(self, connection: socket.socket, selector: selectors.BaseSelector) -> None:
        connection.setblocking(False)  # noqa: FBT003 - the standard library's signature
        self._connection = connection
        self._selector = selector
        self._owed = bytearray()
        selector.register(connection, selectors.EVENT_READ, self.serve)

    def serve(self) -> None:
        """Take what has come, and give back as much as goes; let go of a connection that ended."""
        try:
            with contextlib.suppress(BlockingIOError):
                data = self._connection.recv(65536)
                if not data:
                    self._end()
                    return
                self._owed += data
            with contextlib.suppress(BlockingIOError):
                del self._owed[: self._connection.send(self._owed)]
        except OSError:
            self._end()
            return
        writing = selectors.EVENT_WRITE if self._owed else 0
        self._selector.modify(self._connection, selectors.EVENT_READ | writing, self.serve)

    def _end(self) -> None:
        self._selector.unregister(self._connection)
        self._connection.close()


class Receiver:
    """Receives numbered packets, echoes one TCP connection, watches the active port."""

    def __init__(self, udp: socket.socket, local: str, mac: str) -> None:
        self._udp = udp
        self.sequences = array("q")
        self.active_port = ActivePort(mac)
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(
            (local, TCP_PORT), family=family_of(local), reuse_port=False
        )
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def run(self, *, running: Callable[[], bool], sample_s: float) -> None:
        """Do all that while ``running``, and drain a last time."""
        drained_s = time.monotonic()
        while running():
            for key, _ in self._selector.select(sample_s):
                key.data()
            self.active_port.sample()
            if time.monotonic() - drained_s >= DRAIN_INTERVAL_S:
                self._drain()
                drained_s = time.monotonic()
        self._drain()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        TcpEcho(connection, self._selector)

    def _drain(self) -> None:
        unpack, append, receive = HEADER.unpack_from, self.sequences.append, self._udp.recv
        try:
            while True:
                append(unpack(receive(PACKET_BYTES))[0])
        except BlockingIOError:
            pass


def main() -> None:
    """Run in the background until SIGTERM; the sender has a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--local", required=True)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--mac", required=True)
    parser.add_argument("--rate-hz", type=float, required=True)
    parser.add_argument("--sample-s", type=float, required=True)
    options = parser.parse_args()
    RESULT.unlink(missing_ok=True)
    udp = udp_socket(options.local)
    receiver = Receiver(udp, options.local, options.mac)
    # Before it goes to the background: whoever started it may end it at once.
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    if (pid := os.fork()) != 0:
        PID.write_text(str(pid))
        os._exit(0)
    os.setsid()
    devnull = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(devnull, stream)
    errors = os.open("/run/lab-probe.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(errors, 2)
    serve(
        receiver,
        Sender(udp, options.peer),
        options.rate_hz,
        options.sample_s,
        running=lambda: not stopped,
    )


def serve(
    receiver: Receiver,
    sender: Sender,
    rate_hz: float,
    sample_s: float,
    *,
    running: Callable[[], bool],
) -> None:
    """Send in a child and receive here while ``running``, then write ``RESULT``.

    SIGTERM makes it false, in each of the two.
    """
    unsent_before = unsent_replies()
    results, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        run_sender(sender, rate_hz, running=running)
        with os.fdopen(write_end, "w") as pipe:
            pipe.write(encode(sender.sent_ns))
        os._exit(0)
    os.close(write_end)
    receiver.run(running=running, sample_s=sample_s)
    os.kill(child, signal.SIGTERM)
    with os.fdopen(results) as pipe:
        sent = pipe.read()
    result: dict[str, Any] = {
        "sent_ns": sent,
        "received": encode(receiver.sequences),
        "unsent_replies": unsent_replies() - unsent_before,
        "active_ports": receiver.active_port.changes,
    }
    partial = RESULT.with_suffix(".tmp")
    partial.write_text(json.dumps(result))
    partial.rename(RESULT)


if __name__ == "__main__":
    main()
