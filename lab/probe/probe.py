"""Measures what gets lost between the peer and a guest, packet by packet.

Three flows at one fixed rate, ICMP echo (``icmp``), UDP to the guest (``udp-in``) and from it
(``udp-out``), and a TCP connection that the guest echoes. For each lost packet it is known when it
was sent, by the CLOCK_MONOTONIC of this machine. A guest that is stopped sends nothing, so its
downtime is no loss of ``udp-out``; what the others send meanwhile waits in the queue of its NIC.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

from guestagent.errors import DeadlineError, GuestAgentError, PeerError
from lab.base.paths import ROOT
from lab.base.waiting import wait_until
from lab.guestside.probing import PID, RESULT, decode
from lab.machine.guest import CommandGuest
from lab.machine.setup import NicPair
from lab.network.wires import Network
from lab.probe.accounting import ClockMap, Flow, Pause, account

RATE_HZ = 500.0
GUEST_PROGRAM = "/usr/lib/lab/probing.py"
VF_DRIVERS = {"e1000e", "igbvf"}

MEET_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0

# The position in the kernel of each process of the guest's side, and its output.
WHAT_HOLDS_IT = (
    "cat /run/lab-probe.log; uptime; cat /proc/interrupts | grep LOC; "
    f"for pid in $(pgrep -f {GUEST_PROGRAM}); do "
    "ps -o pid,ppid,stat,psr,time,wchan:32 $pid; cat /proc/$pid/stack; done; ss -tuni"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbePace:
    """How much the probe asks of a guest."""

    rate_hz: float = RATE_HZ
    """Packets of each of the three flows."""
    chunks_hz: float = 100.0
    """Of the TCP connection, 512 bytes each."""
    sample_s: float = 0.01
    """How often the guest looks which port is active."""
    linger_s: float = 1.0
    """Time for packets in flight to arrive after the last one was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivePort:
    """From ``at_s`` on (host's clock) this port of the bond was the active one."""

    at_s: float
    name: str
    """The interface's name; empty without a bond or without an active port."""
    kind: str
    """``vf``, ``standby`` or ``none``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tcp:
    """Fate of the TCP connection."""

    bytes_sent: int
    bytes_echoed: int
    longest_stall_ms: float
    longest_stall_at_s: float
    error: str = ""
    """Error that ended it early."""

    @property
    def survived(self) -> bool:
        """Whether it was not reset, and every byte came back."""
        return not self.error and self.bytes_echoed == self.bytes_sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Observations of a probe from ``begin_s`` to ``end_s`` (this machine's CLOCK_MONOTONIC)."""

    rate_hz: float
    begin_s: float
    end_s: float
    flows: tuple[Flow, ...]
    tcp: Tcp
    active_ports: tuple[ActivePort, ...]
    unsent_replies: int = 0
    """Echo requests that arrived and whose reply the guest's kernel dropped, as its own socket was
    full (see ``unsent_replies`` in lab/guestside/probing.py)."""

    @property
    def sent(self) -> int:
        """Packets sent in all flows."""
        return sum(flow.sent for flow in self.flows)

    @property
    def lost(self) -> int:
        """Packets lost in all flows."""
        return sum(len(flow.lost) for flow in self.flows)

    @property
    def lost_on_the_way(self) -> int:
        """Packets lost in all flows, but for the replies that were never sent."""
        return sum(
            max(0, len(flow.lost) - (self.unsent_replies if flow.name == "icmp" else 0))
            for flow in self.flows
        )

    def active_kind_at(self, at_s: float) -> str:
        """Return ``vf``, ``standby`` or ``none``, as of a moment."""
        kinds = [port.kind for port in self.active_ports if port.at_s <= at_s]
        return kinds[-1] if kinds else "none"

    def to_json(self) -> str:
        """Return everything, each lost packet included, but what arrived, as one JSON object."""
        value = asdict(self)
        for flow in value["flows"]:
            del flow["sent_at_s"]
        return json.dumps(value, indent=1)


class Probe:
    """A context manager; ``start`` and ``stop`` inside. Leaves nothing running.

    :raise PeerError: one of the two programs did not start.
    """

    def __init__(
        self,
        network: Network,
        *,
        pair: NicPair | None = None,
        rate_hz: float = RATE_HZ,
        family: str = "ipv4",
        pace: ProbePace | None = None,
    ) -> None:
        """``pace`` is for a guest that can carry less than ``rate_hz``."""
        self._network = network
        self._pair = pair or NicPair()
        self._pace = pace or ProbePace(rate_hz=rate_hz)
        self.rate_hz = self._pace.rate_hz
        which = ("ipv4", "ipv6").index(family)
        self._peer_address = self._pair.peer_addresses[which].split("/")[0]
        self._guest_address = self._pair.addresses[which].split("/")[0]
        self._begin_s = 0.0

    def __enter__(self) -> Self:
        argv = self._network.peer(
            *(sys.executable, "-m", "lab.probe.peer", "--local", self._peer_address),
            *("--remote", self._guest_address, "--rate-hz", str(self.rate_hz)),
            *("--chunks-hz", str(self._pace.chunks_hz)),
        )
        self._peer = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *argv],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            self._expect("ready")
        except PeerError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._peer.kill()
        self._peer.communicate()

    def start(self, machine: CommandGuest) -> None:
        """Begin to send in all directions; both ends have met before, so nothing is lost yet."""
        wait_until(
            f"the peer reaches {self._guest_address}",
            self._guest_answers,
            timeout_s=MEET_TIMEOUT_S,
        )
        machine.run(
            f"python3 -I -S {GUEST_PROGRAM} --local {self._guest_address} "
            f"--peer {self._peer_address} --mac {self._pair.mac} --rate-hz {self.rate_hz} "
            f"--sample-s {self._pace.sample_s}"
        )
        self._begin_s = time.monotonic()
        self._tell("send")

    def stop(self, machine: CommandGuest, *, pauses: Sequence[Pause] = ()) -> Result:
        """End sending, wait for the packets under way, and return the result.

        ``machine`` is the one that the guest runs on now, ``pauses`` are the times in which it
        was stopped (a migration's downtime).

        :raise PeerError: one of the two programs failed meanwhile.
        :raise DeadlineError: the guest's side did not end; a note says where it hangs.
        """
        self._tell("stop")
        end_s = time.monotonic()
        time.sleep(self._pace.linger_s)
        self._tell("close")
        try:
            guest = machine.run_json(
                f"kill $(cat {PID}) && while [ ! -e {RESULT} ]; do sleep 0.05; done; cat {RESULT}",
                timeout_s=STOP_TIMEOUT_S,
            )
        except DeadlineError as error:
            with suppress(GuestAgentError):
                error.add_note(f"what its processes do: {machine.run(WHAT_HOLDS_IT)}")
            raise
        time.sleep(self._pace.linger_s)
        self._write("report")
        peer = json.loads(self._read())
        return evaluate(
            guest, peer, rate_hz=self.rate_hz, begin_s=self._begin_s, end_s=end_s, pauses=pauses
        )

    def _guest_answers(self) -> bool:
        ping = self._network.peer("ping", "-c", "1", "-W", "1", "-n", self._guest_address)
        return subprocess.run(ping, check=False, stdout=subprocess.DEVNULL).returncode == 0

    def _tell(self, word: str) -> None:
        self._write(word)
        self._expect(word)

    def _write(self, word: str) -> None:
        if self._peer.stdin is None:
            raise PeerError("the peer's probe has no input")
        self._peer.stdin.write(f"{word}\n")
        self._peer.stdin.flush()

    def _expect(self, word: str) -> None:
        answer = self._read().strip()
        if answer != word:
            raise PeerError(f"the peer's probe said {answer!r} instead of {word!r}")

    def _read(self) -> str:
        return self._peer.stdout.readline() if self._peer.stdout else ""


def evaluate(
    guest: Mapping[str, Any],
    peer: Mapping[str, Any],
    *,
    rate_hz: float,
    begin_s: float,
    end_s: float,
    pauses: Sequence[Pause],
) -> Result:
    """Put together what the two programs noted."""
    clock = ClockMap(
        _seconds(peer["arrived_guest_ns"]), _seconds(peer["arrived_ns"]), pauses=pauses
    )
    guest_sent_s = [clock.host_s(at_s) for at_s in _seconds(guest["sent_ns"])]
    flows = (
        account("icmp", _seconds(peer["icmp_sent_ns"]), decode(peer["icmp_replies"])),
        account("udp-in", _seconds(peer["udp_sent_ns"]), decode(guest["received"])),
        account("udp-out", guest_sent_s, decode(peer["arrived"])),
    )
    ports = tuple(
        ActivePort(at_s=clock.host_s(at_ns / 1e9), name=name, kind=_kind(driver))
        for at_ns, name, driver in guest["active_ports"]
    )
    tcp = Tcp(
        bytes_sent=peer["tcp_sent"],
        bytes_echoed=peer["tcp_echoed"],
        longest_stall_ms=peer["tcp_longest_stall_ns"] / 1e6,
        longest_stall_at_s=peer["tcp_longest_stall_at_ns"] / 1e9,
        error=peer["tcp_error"],
    )
    return Result(
        rate_hz=rate_hz,
        begin_s=begin_s,
        end_s=end_s,
        flows=flows,
        tcp=tcp,
        active_ports=ports,
        unsent_replies=guest["unsent_replies"],
    )


def _seconds(encoded: str) -> list[float]:
    return [number / 1e9 for number in decode(encoded)]


def _kind(driver: str) -> str:
    if not driver:
        return "none"
    return "vf" if driver in VF_DRIVERS else "standby"
