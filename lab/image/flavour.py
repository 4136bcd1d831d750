"""Flavours of a guest: its release of Debian and its network stack.

::

    Flavour()                                             Debian 13, networkd, nothing else
    Flavour(suite=Suite.BOOKWORM, stack=Stack.IFUPDOWN)   Debian 12, ifupdown, DHCP

The releases differ in what matters here (kernel, systemd, Python, python3-pyroute2, cloud-init,
netplan, NetworkManager, DHCP client). All stacks of a release are installed in one image, because
making one takes a minute; a guest's kernel command line masks the units of those that are not
its own, which leaves of them what any image has that carries a package it does not use.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from lab.image.seed import Files


class Suite(StrEnum):
    """A release of Debian."""

    BOOKWORM = "bookworm"
    """12: kernel 6.1, systemd 252, Python 3.11, pyroute2 0.7.2, cloud-init 22.4."""
    TRIXIE = "trixie"
    """13: kernel 6.12, systemd 257, Python 3.13, pyroute2 0.7.7, cloud-init 25.1."""


class Stack(StrEnum):
    """Network stack of a guest."""

    NETWORKD = "networkd"
    """systemd-networkd with a file for each pair."""
    CLOUD_INIT = "cloud-init"
    """cloud-init with a NoCloud seed, netplan and networkd, as in Debian's cloud images."""
    NETWORKMANAGER = "networkmanager"
    """NetworkManager with no profile: it makes one for each NIC."""
    IFUPDOWN = "ifupdown"
    """/etc/network/interfaces; dhclient on Debian 12, dhcpcd on 13."""


STACK_PACKAGES = ("cloud-init", "ifupdown", "netplan.io", "network-manager")
DHCP_CLIENTS = {Suite.BOOKWORM: "isc-dhcp-client", Suite.TRIXIE: "dhcpcd-base"}

USER_DATA = "#cloud-config\nmanage_etc_hosts: false\n"

# Renderers as in Debian's cloud images, which have no ifupdown. The lab's image has no
# locales, no ssh-keygen and a disk that needs no growing, which cloud-init holds to be failures.
_CLOUD_CONFIG = """\
datasource_list: [NoCloud, None]
system_info:
  network:
    renderers: [netplan, networkd]
locale: false
ssh_deletekeys: false
ssh_genkeytypes: []
resize_rootfs: false
growpart: {mode: "off"}
"""

_NETWORKD_UNITS = (
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-networkd-wait-online.service",
)
_UNITS = {
    Stack.NETWORKD: _NETWORKD_UNITS,
    Stack.CLOUD_INIT: _NETWORKD_UNITS,
    Stack.NETWORKMANAGER: (
        "NetworkManager.service",
        "NetworkManager-dispatcher.service",
        "NetworkManager-wait-online.service",
    ),
    Stack.IFUPDOWN: ("networking.service",),
}


class Nics(Protocol):
    """The pair of NICs that a guest is configured for (lab.machine.setup.NicPair)."""

    @property
    def index(self) -> int:
        """Its number."""

    @property
    def mac(self) -> str:
        """The MAC address of both."""

    @property
    def standby_name(self) -> str:
        """The name that the guest gives the virtio NIC."""

    @property
    def addresses(self) -> tuple[str, str]:
        """The guest's addresses with prefix lengths, IPv4 and IPv6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flavour:
    """A release and a stack; ``stack`` None stands for the plain image: networkd alone.

    ``dhcp`` selects the source of addresses: DHCPv4 (with the same IPv4 address) and router
    advertisements from lab/network/address_server.py, or the files. It is ignored for the plain
    image, which is always static.
    """

    suite: Suite = Suite.TRIXIE
    stack: Stack | None = None
    dhcp: bool = True

    @property
    def wants_server(self) -> bool:
        """Whether a guest of this flavour waits for DHCP and router advertisements."""
        return self.stack is not None and self.dhcp

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages of its image besides those of every image."""
        return () if self.stack is None else (*STACK_PACKAGES, DHCP_CLIENTS[self.suite])

    @property
    def kernel_arguments(self) -> str:
        """Kernel arguments that disable the other stacks of the image."""
        if self.stack is None:
            return ""
        own = _UNITS[self.stack]
        others = dict.fromkeys(unit for units in _UNITS.values() for unit in units)
        masks = [f"systemd.mask={unit}" for unit in others if unit not in own]
        return " ".join([*masks, *(["cloud-init=disabled"] if self.stack != "cloud-init" else [])])

    def network_files(self, pairs: Iterable[Nics]) -> Files:
        """Return the network files of a user's image, for the virtio NICs alone."""
        pairs = tuple(pairs)
        match self.stack:
            case None | Stack.NETWORKD:
                return {
                    f"etc/systemd/network/50-lan{pair.index}.network": self._networkd(pair)
                    for pair in pairs
                }
            case Stack.CLOUD_INIT:
                return self.seed(pairs)
            case Stack.NETWORKMANAGER if not self.dhcp:
                profiles = "etc/NetworkManager/system-connections"
                return {f"{profiles}/lan{pair.index}.nmconnection": _nm(pair) for pair in pairs}
            case Stack.NETWORKMANAGER:
                return {}
            case Stack.IFUPDOWN:
                lines = ["auto lo", "iface lo inet loopback"]
                for pair in pairs:
                    lines += self._ifupdown(pair)
                return {"etc/network/interfaces": "\n".join(lines) + "\n"}

    def seed(self, pairs: Iterable[Nics], *, user_data: str = USER_DATA) -> Files:
        """Return the files of a NoCloud seed, and what keeps cloud-init from looking further."""
        network = ["version: 2", "ethernets:"]
        for pair in pairs:
            network += self._netplan(pair)
        seed = "var/lib/cloud/seed/nocloud"
        return {
            "etc/cloud/cloud.cfg.d/90-lab.cfg": _CLOUD_CONFIG,
            f"{seed}/meta-data": "instance-id: lab-1\nlocal-hostname: guest\n",
            f"{seed}/user-data": user_data,
            f"{seed}/network-config": "\n".join(network) + "\n",
        }

    def _networkd(self, pair: Nics) -> str:
        lines = ["[Match]", f"MACAddress={pair.mac}", "[Network]"]
        if self.wants_server:
            lines += ["DHCP=ipv4"]
        else:
            lines += [*(f"Address={address}" for address in pair.addresses), "IPv6AcceptRA=no"]
        return "\n".join(lines) + "\n"

    def _netplan(self, pair: Nics) -> list[str]:
        name = f"lan{pair.index}"
        match = f"match: {{macaddress: '{pair.mac}'}}"
        lines = [f"  {name}:", f"    {match}", f"    set-name: {name}"]
        if self.dhcp:
            return [*lines, "    dhcp4: true"]
        addresses = ", ".join(f"'{address}'" for address in pair.addresses)
        return [*lines, "    accept-ra: false", f"    addresses: [{addresses}]"]

    def _ifupdown(self, pair: Nics) -> list[str]:
        nic = pair.standby_name
        if self.dhcp:
            return [f"auto {nic}", f"iface {nic} inet dhcp", f"iface {nic} inet6 auto"]
        v4, v6 = pair.addresses
        return [
            f"auto {nic}",
            *(f"iface {nic} inet static", f"    address {v4}"),
            *(f"iface {nic} inet6 static", f"    address {v6}", "    accept_ra 0"),
        ]


PLAIN = Flavour()


def _nm(pair: Nics) -> str:
    v4, v6 = pair.addresses
    lines = [
        *("[connection]", f"id=lan{pair.index}", "type=ethernet"),
        *("[ethernet]", f"mac-address={pair.mac}"),
        *("[ipv4]", "method=manual", f"address1={v4}"),
        *("[ipv6]", "method=manual", f"address1={v6}"),
    ]
    return "\n".join(lines) + "\n"
