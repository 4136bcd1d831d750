"""MAC addresses that a switch between the hosts learns, each with its port and VLAN.

The lab's own switch knows no VLANs (the kernel of the machine may have none), so this listens to
what comes in on its ports and notes when one that knows them would have learned what.

As a program, run where the ports are, it prints ``ready`` and then one line for each frame from
the address: time (CLOCK_MONOTONIC), port, VLAN (0 for none).
"""

from __future__ import annotations

import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from guestagent.errors import PeerError
from lab.base.paths import ROOT
from lab.base.waiting import wait_until
from lab.network.wires import Network

# include/uapi/linux/if_ether.h, if_packet.h and asm-generic/socket.h: not in Python.
ETH_P_ALL = 3
SOL_PACKET, PACKET_AUXDATA, PACKET_OUTGOING = 263, 8, 4
AUXDATA = struct.Struct("@IIIHHHH")
VLAN_VALID, VLAN_ID = 0x10, 0x0FFF
SO_TIMESTAMPNS = 35
TIMESPEC = struct.Struct("@qq")

START_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A frame that came into the switch."""

    at_s: float
    port: str
    vlan: int


class Listener:
    """A context manager: listens to the ports ``downA`` and ``downB`` for frames from ``mac``."""

    def __init__(self, network: Network, mac: str) -> None:
        self._argv = network.hosts(
            sys.executable, "-m", "tests.vm.learning", mac, "downA", "downB"
        )

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._heard = stack.enter_context(tempfile.NamedTemporaryFile())
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._argv],
                cwd=ROOT,
                stdout=self._heard,
            )
            stack.callback(self._process.wait)
            stack.callback(self._process.kill)
            wait_until("somebody listens to the switch", self._lines, timeout_s=START_TIMEOUT_S)
            self._cleanup = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._cleanup.close()

    def frames(self) -> tuple[Frame, ...]:
        """Return the addresses that were learnt so far."""
        words = (line.split() for line in self._lines()[1:])
        return tuple(
            Frame(at_s=float(at_s), port=port, vlan=int(vlan)) for at_s, port, vlan in words
        )

    def _lines(self) -> list[str]:
        """Return the lines that are complete, the first of which is ``ready``."""
        if self._process.poll() is not None:
            raise PeerError("nobody listens to the ports of the switch")
        lines = Path(self._heard.name).read_text().splitlines(keepends=True)
        return [line for line in lines if line.endswith("\n")]


def main(mac: str, ports: list[str]) -> None:
    """Print what is heard until killed."""
    source = bytes.fromhex(mac.replace(":", ""))
    sockets = [_open(port) for port in ports]
    print("ready", flush=True)
    while True:
        for ready in select.select(sockets, [], [])[0]:
            data, ancillary, _, address = ready.recvmsg(2048, 256)
            if address[2] == PACKET_OUTGOING or data[6:12] != source:
                continue
            known = {(level, kind): value for level, kind, value in ancillary}
            status, *_, vlan, _ = AUXDATA.unpack(known[SOL_PACKET, PACKET_AUXDATA])
            seconds, nanoseconds = TIMESPEC.unpack(known[socket.SOL_SOCKET, SO_TIMESTAMPNS])
            at_s = seconds + nanoseconds / 1e9 - time.time() + time.monotonic()
            print(at_s, address[0], vlan & VLAN_ID if status & VLAN_VALID else 0, flush=True)


def _open(port: str) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    made.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    made.bind((port, ETH_P_ALL))
    return made


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
