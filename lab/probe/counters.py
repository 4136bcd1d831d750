"""Counters of the kernels of guest and peer, which show the one that lost a packet."""

from __future__ import annotations

import json
from collections.abc import Mapping

from lab.base.process import run
from lab.machine.machine import Machine
from lab.network.wires import Network

NSTAT = "nstat -jasz"
TELLING = (
    *("IcmpInEchos", "IcmpInEchoReps", "IcmpOutEchos", "IcmpOutEchoReps"),
    *("IcmpInErrors", "IcmpInCsumErrors", "IcmpOutErrors"),
    *("IcmpOutRateLimitGlobal", "IcmpOutRateLimitHost"),
    *("IpInDiscards", "IpInAddrErrors", "IpOutDiscards", "IpOutNoRoutes", "IpReasmFails"),
    *("UdpNoPorts", "UdpInErrors", "UdpRcvbufErrors", "UdpSndbufErrors"),
    *("TcpExtTCPTimeouts", "TcpRetransSegs", "TcpExtIPReversePathFilter"),
)


class Counters:
    """Counters of both kernels, as differences since the last reading."""

    def __init__(self, network: Network, guest: Machine) -> None:
        self._network = network
        self._guest = guest
        self._last = self._read()

    def since(self) -> dict[str, dict[str, int]]:
        """Return by side what has risen since the last call: errors, drops, and ICMP echo."""
        before, self._last = self._last, self._read()
        return {
            side: {
                name: count - before[side].get(name, 0)
                for name, count in counts.items()
                if name in TELLING and count != before[side].get(name, 0)
            }
            for side, counts in self._last.items()
        }

    def _read(self) -> dict[str, Mapping[str, int]]:
        peer = json.loads(run(*self._network.peer(*NSTAT.split())))
        return {"guest": self._guest.run_json(NSTAT)["kernel"], "peer": peer["kernel"]}
