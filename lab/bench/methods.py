"""Methods of the benchmark, and the set-up of each guest according to its documentation.

Every guest is the same Debian with the same pair of NICs. What is in ``files`` and ``commands``
is the whole of what differs, and ``describe`` prints it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lab.image.seed import Files
from lab.machine.setup import NicPair, Setup


class Scenario(StrEnum):
    """Scenario that a guest goes through."""

    UNPLUG = "unplug"
    REPLUG = "replug"
    APPEAR = "appear"
    ADOPT = "adopt"
    KILLED = "agent-killed"
    RESTARTED = "agent-restarted"
    UPGRADED = "agent-upgraded"
    MIGRATE = "migrate"

    @property
    def rank(self) -> int:
        """The place in the order above."""
        return list(Scenario).index(self)


HOT_PLUG = (Scenario.UNPLUG, Scenario.REPLUG, Scenario.APPEAR)
ON_AGENT = (Scenario.KILLED, Scenario.RESTARTED, Scenario.UPGRADED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One way to make a pair of two NICs."""

    name: str
    about: str
    """Description of the method, with the documentation that it follows; a sentence."""
    scenarios: tuple[Scenario, ...]
    files: Files
    """In the guest's root before it boots."""
    commands: str = ""
    """Run once as root, after the boot."""
    at_plug: str = ""
    """Run by hand each time that a VF was plugged; ``$VF`` is its name."""
    with_agent: bool = False
    planned: bool = False
    """``guestagent-host`` takes and gives the VF: it asks the agent to move the traffic first."""
    failover: bool = False
    packages: tuple[str, ...] = ()
    left_out: str = ""
    """Why some scenarios are not run."""

    @property
    def setup(self) -> Setup:
        """The guest, as the lab starts it."""
        return Setup(pairs=(NicPair(failover=self.failover),), network_files=self.files)

    @property
    def guest(self) -> tuple[str, ...]:
        """Values that distinguish the frozen guest of this method from others."""
        return repr(self.setup), self.commands, str(self.with_agent), *self.packages

    def describe(self) -> str:
        """Return the set-up, all of it, as Markdown."""
        parts = [f"### {self.name}", self.about]
        parts += [f"`/{path}`:\n\n{_indented(text)}" for path, text in self.files.items()]
        if self.packages:
            parts.append(f"packages: {', '.join(self.packages)}")
        if self.failover:
            parts.append("QEMU: virtio-net-pci,failover=on; VF: failover_pair_id, its id")
        if self.commands:
            parts.append(f"after the boot:\n\n{_indented(self.commands)}")
        if self.at_plug:
            parts.append(
                f"by hand after each plug, $VF is the new NIC:\n\n{_indented(self.at_plug)}"
            )
        if self.left_out:
            parts.append(f"not run: {self.left_out}")
        return "\n\n".join(parts)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.strip().splitlines())


PAIR = NicPair()
VF_NAME = "enp2s0"
"""Name that udev gives to a NIC behind the port rp1."""

_ADDRESSES = "\n".join(f"Address={address}" for address in PAIR.addresses)

# Every bond is given its address: left alone, udev gives it one that is neither NIC's (its
# MACAddressPolicy=persistent), and a real VF refuses to take that over.
_NETWORKD_BOND = f"""\
[NetDev]
Name=bond0
Kind=bond
MACAddress={PAIR.mac}

[Bond]
Mode=active-backup
MIIMonitorSec=100ms
PrimaryReselectPolicy=always
"""
_NETWORKD_STANDBY = f"""\
[Match]
PermanentMACAddress={PAIR.mac}
Driver=virtio_net

[Network]
Bond=bond0
"""
_NETWORKD_VF = f"""\
[Match]
PermanentMACAddress={PAIR.mac}
Driver=e1000e

[Network]
Bond=bond0
PrimarySlave=yes
"""
_NETWORKD_ADDRESSES = f"""\
[Match]
Name=bond0

[Network]
{_ADDRESSES}
IPv6AcceptRA=no
"""
_FAILOVER_ADDRESSES = f"""\
[Match]
MACAddress={PAIR.mac}
Driver=net_failover

[Network]
{_ADDRESSES}
IPv6AcceptRA=no
"""
_NM_BOND = f"""\
[connection]
id=bond0
type=bond
interface-name=bond0

[ethernet]
cloned-mac-address={PAIR.mac}

[bond]
mode=active-backup
miimon=100
primary={VF_NAME}

[ipv4]
method=manual
address1={PAIR.addresses[0]}

[ipv6]
method=manual
address1={PAIR.addresses[1]}
"""


def _nm_port(name: str, driver: str) -> str:
    return f"""\
[connection]
id={name}
type=ethernet
controller=bond0
port-type=bond

[match]
driver={driver};

[ethernet]
mac-address={PAIR.mac}
"""


_PROFILES = "etc/NetworkManager/system-connections"
_HAND_BOND = f"""\
modprobe bonding
ip link add bond0 address {PAIR.mac} type bond mode active-backup miimon 100
ip link set enp1s0 down
ip link set enp1s0 master bond0
ip link set bond0 up
ip address add {PAIR.addresses[0]} dev bond0
ip address add {PAIR.addresses[1]} dev bond0
"""
_HAND_PLUG = """\
ip link set $VF down
ip link set $VF master bond0
ip link set bond0 type bond primary $VF
"""

_AGENT_LEFT_OUT = "appear, adopt and agent-*: the result is that of agent-planned"

METHODS = (
    Method(
        name="agent-planned",
        about="This agent, in step with the host helper, which moves the VF (README.md).",
        scenarios=tuple(Scenario),
        files=PAIR.network_file(),
        with_agent=True,
        planned=True,
    ),
    Method(
        name="agent-surprise",
        about="This agent, without a request from the host; the host helper has no channel to it.",
        scenarios=(Scenario.UNPLUG, Scenario.REPLUG, Scenario.MIGRATE),
        files=PAIR.network_file(),
        with_agent=True,
        left_out=_AGENT_LEFT_OUT,
    ),
    Method(
        name="net_failover",
        about="The kernel's own pair (Documentation/networking/net_failover.rst), its master"
        " configured by systemd-networkd.",
        scenarios=HOT_PLUG,
        files={"etc/systemd/network/50-lan0.network": _FAILOVER_ADDRESSES},
        failover=True,
        left_out="adopt: the pair exists from the boot on; agent-*: no agent",
    ),
    Method(
        name="networkd",
        about="Static files of systemd-networkd (systemd.netdev(5), systemd.network(5)).",
        scenarios=HOT_PLUG,
        files={
            "etc/systemd/network/10-bond0.netdev": _NETWORKD_BOND,
            "etc/systemd/network/20-standby.network": _NETWORKD_STANDBY,
            "etc/systemd/network/21-vf.network": _NETWORKD_VF,
            "etc/systemd/network/30-bond0.network": _NETWORKD_ADDRESSES,
        },
        left_out="adopt: the bond exists from the boot on; agent-*: no agent",
    ),
    Method(
        name="networkmanager",
        about="Keyfile profiles of NetworkManager (nm-settings-keyfile(5)).",
        scenarios=HOT_PLUG,
        files={
            f"{_PROFILES}/bond0.nmconnection": _NM_BOND,
            f"{_PROFILES}/standby.nmconnection": _nm_port("standby", "virtio_net"),
            f"{_PROFILES}/vf.nmconnection": _nm_port("vf", "e1000e"),
        },
        # The lab puts files in place that anybody may read, and such profiles are refused.
        commands=f"chmod 600 /{_PROFILES}/*\nnmcli connection reload\n"
        "nmcli connection up standby\n",
        packages=("network-manager",),
        left_out="adopt: the bond exists from the boot on; agent-*: no agent",
    ),
    Method(
        name="hand-bond",
        about="A bond made by hand (Documentation/networking/bonding.rst, with iproute2).",
        scenarios=(Scenario.UNPLUG, Scenario.REPLUG),
        files={},
        commands=_HAND_BOND,
        at_plug=_HAND_PLUG,
        left_out="appear, adopt: the commands are typed by hand; agent-*: no agent",
    ),
    Method(
        name="virtio-only",
        about="The virtio NIC alone, configured by systemd-networkd.",
        scenarios=(Scenario.MIGRATE,),
        files=PAIR.network_file(),
        left_out="all but migrate: there is no VF",
    ),
)
