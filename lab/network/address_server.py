"""Address service for guests: DHCPv4, router advertisements and DHCPv6 from the peer.

dnsmasq, in the peer's network namespace alone, without DNS. Each NIC pair always gets the IPv4
address that it has in the static setups, so that whatever knows it goes on; the IPv6 address is
made by the guest from the advertised prefix of the first pair.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from guestagent.errors import PeerError
from lab.base.process import end
from lab.base.runs import make_directory
from lab.base.waiting import wait_until

LEASE_S = 3600
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """A MAC address, and the addresses that are kept for it."""

    mac: str
    ipv4: str
    ipv6: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressLease:
    """An address that a client has asked for and got; ``mac`` is None with DHCPv6."""

    address: str
    mac: str | None
    client: str
    """The client identifier, or the DUID: what the client says that it is."""


class AddressServer:
    """A running dnsmasq; a context manager.

    ``enter`` is the argument list that runs a program in its namespace, where ``link`` has the
    address of each network that is served.

    :raise PeerError: it did not start.
    """

    def __init__(
        self,
        *,
        enter: Sequence[str],
        link: str,
        stations: Sequence[Station],
        advertise: bool,
        dhcp6: bool,
        lease_s: int,
    ) -> None:
        self._enter = enter
        self._link = link
        self._stations = stations
        self._advertise = advertise
        self._dhcp6 = dhcp6
        self._lease_s = lease_s
        self._directory = make_directory()

    def __enter__(self) -> Self:
        log = self._directory / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*self._enter, "setpriv", "--pdeathsig", "KILL", "dnsmasq", *self._arguments(log)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=output,
            )
        try:
            wait_until("dnsmasq serves", lambda: self._serves(log), timeout_s=START_TIMEOUT_S)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        end(self._process, STOP_TIMEOUT_S)
        shutil.rmtree(self._directory)

    @property
    def log(self) -> str:
        """Log of the server: every request and every answer."""
        return (self._directory / "log").read_text(errors="replace")

    def leases(self) -> tuple[AddressLease, ...]:
        """Return the present leases, in the order in which they were given."""
        path = self._directory / "leases"
        return parse_leases(path.read_text() if path.exists() else "")

    def _serves(self, log: Path) -> bool:
        if self._process.poll() is not None:
            raise PeerError(f"dnsmasq did not start: {log.read_text()}")
        return "DHCP" in log.read_text()

    def _arguments(self, log: Path) -> list[str]:
        arguments = [
            *("--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file"),
            *("--port=0", f"--interface={self._link}", "--bind-interfaces"),
            *("--no-ping", "--dhcp-authoritative", "--log-dhcp"),
            f"--log-facility={log}",
            f"--dhcp-leasefile={self._directory / 'leases'}",
        ]
        for station in self._stations:
            network = station.ipv4.rpartition(".")[0]
            v6 = f",[{station.ipv6}]" if self._dhcp6 else ""
            arguments += [
                f"--dhcp-range={network}.100,{network}.199,255.255.255.0,{self._lease_s}",
                f"--dhcp-host={station.mac},{station.ipv4}{v6},{self._lease_s}",
            ]
        prefix = self._stations[0].ipv6.rpartition("::")[0]
        if self._dhcp6:
            arguments.append(f"--dhcp-range={prefix}::100,{prefix}::1ff,slaac,64,{self._lease_s}")
        elif self._advertise:
            arguments.append(f"--dhcp-range={prefix}::,ra-only,64,{max(self._lease_s, 7200)}")
        if self._advertise:
            arguments.append("--enable-ra")
        return arguments


def parse_leases(text: str) -> tuple[AddressLease, ...]:
    """Return the leases of a dnsmasq lease file (dnsmasq: src/lease.c, lease_update_file).

    One lease a line: expiry, MAC (IAID with DHCPv6), address, host name, client identifier.
    """
    leases = []
    for line in text.splitlines():
        words = line.split()
        if len(words) == 5:
            _, hardware, address, _, client = words
            mac = hardware if re.fullmatch("([0-9a-f]{2}:){5}[0-9a-f]{2}", hardware) else None
            leases.append(AddressLease(address=address, mac=mac, client=client))
    return tuple(leases)
