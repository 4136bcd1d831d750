"""The wires: two hosts, a switch between them and a peer, in network namespaces of their own.

::

    namespace hosts:  tap… ── bridge hostA ── bridge switch ── bridge hostB ── tap…
                                                    │
    namespace peer:                               eth0   198.18.0.1/24 2001:db8::1/64 …
                                                  dnsmasq, if a test asks for it

All three bridges learn MAC addresses as a switch does. Nothing else is in these namespaces, so
there is no traffic but that of the guests and the peer, and deleting them cleans up everything.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from guestagent.errors import SystemLacksError
from lab.base.process import run
from lab.base.runs import remove_leftovers, unique_name
from lab.network.address_server import LEASE_S, AddressLease, AddressServer, Station

HOSTS = ("A", "B")
PEER_STATION, GUEST_STATION = 1, 10

# A guest that is stopped for its migration is not served for some hundred milliseconds: what
# arrives meanwhile has to wait here, or the lab would lose what no real host loses.
QUEUE_PACKETS = 10_000

# Nor does it answer when the peer asks for its MAC address meanwhile: after the usual three times,
# a second apart, the peer would drop what is sent to it (K: net/core/neighbour.c,
# neigh_max_probes).
NEIGHBOUR_PROBES = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet:
    """The addresses on one wire pair: IPv4 /24 and IPv6 /64."""

    ipv4: str
    ipv6: str

    @classmethod
    def of_pair(cls, index: int) -> Subnet:
        """Return the subnet of the guests' NIC pair ``index`` (0-99)."""
        return cls(ipv4=f"198.18.{index}.", ipv6=f"2001:db8:{index}::")

    def addresses(self, number: int) -> tuple[str, str]:
        """Return both addresses of a station, with prefix lengths."""
        return f"{self.ipv4}{number}/24", f"{self.ipv6}{number:x}/64"


def mac_of_pair(index: int) -> str:
    """Return the MAC address that both NICs of the guests' pair ``index`` have."""
    return f"52:54:00:5a:00:{index:02x}"


def station_of_pair(index: int) -> Station:
    """Return the peer's view of pair ``index`` of the guests."""
    ipv4, ipv6 = Subnet.of_pair(index).addresses(GUEST_STATION)
    return Station(
        mac=mac_of_pair(index), ipv4=ipv4.partition("/")[0], ipv6=ipv6.partition("/")[0]
    )


class Network:
    """A context manager that makes the namespaces and deletes them.

    Also deletes what runs that were killed left behind: a namespace carries its owner's PID.

    :raise SystemLacksError: not root, or iproute2 failed.
    """

    def __init__(self, *, subnets: int = 2) -> None:
        name = unique_name()
        self.hosts_namespace = f"{name}-hosts"
        self.peer_namespace = f"{name}-peer"
        self._subnets = subnets
        self._server: AddressServer | None = None
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        remove_leftovers()
        try:
            self._make()
        except SystemLacksError:
            self._delete()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with self._cleanup:
            self._cleanup.callback(self._delete)

    def add_tap(self, name: str, *, host: str) -> None:
        """Make a tap device as a port of host ``A`` or ``B``."""
        self._ip(f"tuntap add {name} mode tap")
        self._plug(name, f"host{host}")

    def delete_link(self, name: str) -> None:
        """Delete a device that was made here."""
        self._ip(f"link delete {name}")

    def forward(self, port: str, *, on: bool) -> None:
        """Have a bridge drop all frames of one of its ports, or end that.

        The link stays up on both ends: what a broken path beyond the next device looks like.
        """
        forwarding, disabled = 3, 0  # BR_STATE_ of include/uapi/linux/if_bridge.h
        state = forwarding if on else disabled
        run(*self.hosts("bridge", "link", "set", "dev", port, "state", str(state)))

    @property
    def serves_addresses(self) -> bool:
        """Whether the peer gives addresses to guests."""
        return self._server is not None

    def serve_addresses(
        self, *, advertise: bool = True, dhcp6: bool = False, lease_s: int = LEASE_S
    ) -> None:
        """Have the peer give addresses to guests from now on: DHCPv4, and for IPv6 as chosen.

        The guest of pair N gets the IPv4 address of ``NicPair(index=N)`` (and with ``dhcp6`` its
        IPv6 address), a default route through the peer, and from router advertisements the prefix
        of the first pair.

        :raise PeerError: dnsmasq did not start.
        """
        if advertise:
            # What says in its advertisements that it is a router must say so when it is asked for
            # its MAC as well, or the guest's kernel drops its route (K: net/ipv6/ndisc.c,
            # ndisc_recv_na).
            setting = "/proc/sys/net/ipv6/conf/all/forwarding"
            run(*self.peer("tee", setting), stdin="1\n")
        server = AddressServer(
            enter=self.peer(),
            link="eth0",
            stations=[station_of_pair(index) for index in range(self._subnets)],
            advertise=advertise,
            dhcp6=dhcp6,
            lease_s=lease_s,
        )
        self._server = self._cleanup.enter_context(server)

    def leases(self) -> tuple[AddressLease, ...]:
        """Return the leases of the DHCP server; none without a server."""
        return self._server.leases() if self._server else ()

    def peer(self, *argv: str) -> tuple[str, ...]:
        """Return the argument list that runs ``argv`` as the peer."""
        return ("ip", "netns", "exec", self.peer_namespace, *argv)

    def hosts(self, *argv: str) -> tuple[str, ...]:
        """Return the argument list that runs ``argv`` where the hosts' bridges are."""
        return ("ip", "netns", "exec", self.hosts_namespace, *argv)

    def _make(self) -> None:
        for namespace in (self.hosts_namespace, self.peer_namespace):
            run("ip", "netns", "add", namespace)
        for bridge in ("switch", *(f"host{host}" for host in HOSTS)):
            self._ip(f"link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0")
            self._silence(bridge)
            self._ip(f"link set {bridge} up")
        for host in HOSTS:
            self._ip(f"link add up{host} type veth peer name down{host}")
            self._plug(f"up{host}", f"host{host}")
            self._plug(f"down{host}", "switch")
        self._ip(f"link add peer type veth peer name eth0 netns {self.peer_namespace}")
        self._plug("peer", "switch")
        for index in range(self._subnets):
            for address in Subnet.of_pair(index).addresses(PEER_STATION):
                run("ip", "-n", self.peer_namespace, "address", "add", address, "dev", "eth0",
                    *(["nodad"] if ":" in address else []))  # fmt: skip
        run("ip", "-n", self.peer_namespace, "link", "set", "eth0", "up")
        probes = [
            f"/proc/sys/net/{family}/neigh/eth0/{kind}_solicit"
            for family in ("ipv4", "ipv6")
            for kind in ("ucast", "mcast")
        ]
        run(*self.peer("tee", *probes), stdin=f"{NEIGHBOUR_PROBES}\n")
        run("ip", "-n", self.peer_namespace, "link", "set", "lo", "up")

    def _plug(self, port: str, bridge: str) -> None:
        self._silence(port)
        self._ip(f"link set {port} master {bridge} txqueuelen {QUEUE_PACKETS} up")

    def _silence(self, link: str) -> None:
        """Keep the namespace's own IPv6 off a link, where it would send packets."""
        self._ip(f"link set {link} addrgenmode none")

    def _ip(self, arguments: str) -> None:
        run("ip", "-n", self.hosts_namespace, *arguments.split())

    def _delete(self) -> None:
        for namespace in (self.hosts_namespace, self.peer_namespace):
            if Path("/run/netns", namespace).exists():
                run("ip", "netns", "delete", namespace)
