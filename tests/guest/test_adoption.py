"""Adoption of a NIC that has more than an address, and of one that cannot be moved live."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from lab.base.process import run
from lab.base.waiting import wait_until
from lab.machine.guests import Guests
from lab.machine.machine import Machine
from lab.machine.monitor import Json
from lab.machine.setup import NicPair, Setup
from lab.network.wires import Network
from tests.guest.seen import (
    CONVERGED_S,
    assert_becomes,
    assert_nothing_lost,
    configuration,
    look,
    probed,
    take_apart,
    wait_converged,
    wait_on_standby,
    wait_on_vf,
)

PAIR, OTHER = NicPair(), NicPair(index=1)
NIC = "enp1s0"
LARGE = "ping -c 3 -i 0.2 -W 30 -M do -s 8000 198.18.0.1"
BY_HAND = f"""
set -e
ip link set {NIC} up mtu 9000
ip address add 198.18.0.10/24 brd + dev {NIC} label {NIC}:1
ip address add 198.18.0.20/24 dev {NIC} metric 500
ip address add 2001:db8:0::a/64 dev {NIC} nodad valid_lft 86400 preferred_lft 43200
ip route add default via 198.18.0.1 dev {NIC} mtu lock 1400
ip route add 203.0.113.0/24 via 198.18.0.1 dev {NIC} table 1000 src 198.18.0.20
ip route add 203.0.113.0/24 via 198.18.0.1 dev {NIC} table 1000 tos 0x10 metric 7
ip route add local 192.0.2.0/28 dev {NIC} proto static
ip -6 route add default via 2001:db8::1 dev {NIC}
ip rule add iif {NIC} lookup 1000 priority 100
ip -6 rule add oif {NIC} lookup 1000 priority 101
ip neighbour add 198.18.0.99 lladdr 02:00:00:00:00:99 dev {NIC} nud permanent
ip neighbour add proxy 198.18.0.98 dev {NIC}
cd /proc/sys/net
echo 1 >ipv4/conf/{NIC}/rp_filter
echo 2 >ipv4/conf/{NIC}/arp_announce
echo 33 >ipv6/conf/{NIC}/hop_limit
echo 5 >ipv4/neigh/{NIC}/mcast_solicit
"""
SHOW = """
ip -o link show {0} | grep -o ' mtu [0-9]*'
ip -o address show dev {0} scope global | sed 's/^[0-9]*: //; s/[0-9]*sec/SEC/g' | sort
ip route show table all dev {0} proto boot; ip route show table all dev {0} proto static
ip -6 route show table all dev {0} proto boot
ip rule; ip -6 rule; ip neighbour show dev {0} nud permanent; ip neighbour show proxy dev {0}
cd /proc/sys/net
cat ipv4/conf/{0}/{{rp_filter,arp_announce}} ipv6/conf/{0}/hop_limit ipv4/neigh/{0}/mcast_solicit
"""
IN_A_FILE = """
[Link]
MTUBytes=9000
[Route]
Destination=203.0.113.0/24
Gateway=198.18.0.1
Table=1000
[RoutingPolicyRule]
From=198.18.0.10
Table=1000
Priority=100
"""


def addressing(guest: Machine, name: str) -> str:
    """Return the addressing of a link, with the name X in place of its own."""
    shown = guest.run(SHOW.format(name))
    return re.sub(rf"\b{name}\b", "X", shown)


def carried_by_vf(guest: Machine) -> bool:
    """Whether the pair's bond is complete and its traffic on the VF."""
    seen = look(guest)
    bond, vf = seen.bond(PAIR), seen.vf(PAIR)
    return (
        bond is not None
        and vf is not None
        and bond.ports == {vf.name, seen.standby(PAIR).name}
        and bond.active == bond.primary == vf.name
        and bond.alias.startswith("guestagent:")
    )


@contextmanager
def large_frames(network: Network) -> Iterator[None]:
    """Let the wires carry frames of 9000 bytes."""
    for namespace in (network.hosts_namespace, network.peer_namespace):
        for link in run("ip", "-n", namespace, "-br", "link").splitlines():
            name = link.split()[0].split("@")[0]
            if name != "lo":
                run("ip", "-n", namespace, "link", "set", name, "mtu", "9000")
    yield


def but_for(names: Iterable[str], configuration: str) -> list[str]:
    """Return the lines of a configuration that speak of none of these links."""
    return [line for line in configuration.splitlines() if not any(n in line for n in names)]


def left_alone(guest: Machine, mac: str) -> Json:
    """Wait until a pair is reported as left alone; return what is said of it."""

    def found() -> Json:
        report = guest.run_json("guestagent status --json")["left_alone"]
        return next((item for item in report if item["mac"] == mac), None)

    return wait_until(f"{mac} is left alone", found, timeout_s=CONVERGED_S)


def where(status: Json) -> tuple[Json, list[Json]]:
    """Return the NICs that are left alone, and the role that carries each pair."""
    return status["left_alone"], [pair["active"] for pair in status["pairs"]]


def test_all_that_a_nic_has_goes_to_the_bond_and_comes_back(
    guest: Machine, network: Network
) -> None:
    (path,) = PAIR.network_file()
    guest.run(f"rm /{path} && networkctl reload")
    networkd = f"networkctl status --json=short {NIC}"
    wait_until(
        "networkd has left the NIC",
        lambda: guest.run_json(networkd)["AdministrativeState"] == "unmanaged",
        timeout_s=CONVERGED_S,
    )
    guest.run(f"ip address flush dev {NIC}")
    guest.run(BY_HAND)
    before = addressing(guest, NIC)
    with large_frames(network):
        assert "3 received" in guest.run(LARGE)

        def adopt() -> None:
            guest.plug_vf()
            # The addresses are other ones than ``wait_on_vf`` knows.
            wait_until("it is on the VF", lambda: carried_by_vf(guest), timeout_s=CONVERGED_S)
            wait_converged(guest)

        result = probed(network, guest, adopt)
        assert_nothing_lost(result)
        (bond,) = look(guest).bonds
        assert_becomes(lambda: addressing(guest, bond.name), before)
        # The NIC filtered strictly, and what still came there was taken all the same.
        assert "3 received" in guest.run(LARGE)
        result = probed(network, guest, lambda: take_apart(guest))
        assert_nothing_lost(result)
        assert_becomes(lambda: addressing(guest, NIC), before)
        assert "3 received" in guest.run(LARGE)


def test_what_networkd_has_for_a_nic_goes_to_the_bond_and_comes_back(
    guest: Machine, network: Network
) -> None:
    (path,) = PAIR.network_file()
    # By name: a file that matches the MAC matches the bond as well, which then needs none.
    guest.run(f"sed -i 's/^MACAddress=.*/Name={NIC}/' /{path} && cat >> /{path}", stdin=IN_A_FILE)
    guest.run("networkctl reload")

    def configured() -> bool:
        shown = guest.run(f"ip link show {NIC}; ip rule; ip route show table 1000 || true")
        return all(word in shown for word in ("mtu 9000", "lookup 1000", "via 198.18.0.1"))

    wait_until("networkd has configured the NIC", configured, timeout_s=CONVERGED_S)
    before = configuration(guest) + guest.run("ip rule")

    # What fails in the middle leaves the network as it was: the bond is made and carries, and
    # the file that hands it the configuration cannot be written.
    in_the_way = "/run/systemd/network/05-guestagent-bond0.network"
    guest.run(f"mkdir -p {in_the_way}/x")
    guest.plug_vf()

    def failed() -> bool:
        error = guest.run_json("guestagent status --json")["last_error"]
        return in_the_way in (error or "")

    wait_until("the file could not be written", failed, timeout_s=CONVERGED_S)
    ping = "ping -c 3 -i 0.2 -W 30 198.18.0.1"
    assert "3 received" in guest.run(ping)
    assert look(guest).standby(PAIR).upper is None
    made = ("bond0", next(nic.name for nic in look(guest).nics if not nic.virtio))
    assert but_for(made, configuration(guest) + guest.run("ip rule")) == but_for(made, before)

    def adopt() -> None:
        guest.run(f"rmdir -p --ignore-fail-on-non-empty {in_the_way}/x")
        wait_on_vf(guest)

    result = probed(network, guest, adopt)
    assert_nothing_lost(result)
    wait_converged(guest)
    assert guest.run("ip -o link show bond0 | grep -o 'mtu [0-9]*'").strip() == "mtu 9000"
    assert "via 198.18.0.1 dev bond0" in guest.run("ip route show table 1000")
    assert_becomes(lambda: guest.run("ip rule").count("lookup 1000"), 1)
    result = probed(network, guest, lambda: take_apart(guest))
    assert_nothing_lost(result)
    assert_becomes(
        lambda: but_for(made, configuration(guest) + guest.run("ip rule")), but_for(made, before)
    )


def test_a_nic_that_cannot_be_moved_is_left_alone_and_bonded_at_the_next_boot(
    guests: Guests,
) -> None:
    files = {
        **PAIR.network_file(),
        "etc/systemd/network/20-vlan.netdev": "[NetDev]\nName=vlan5\nKind=vlan\n[VLAN]\nId=5\n",
        "etc/systemd/network/20-vlan.network": (
            "[Match]\nName=vlan5\n[Network]\nAddress=198.18.5.10/24\n"
        ),
        "etc/systemd/network/20-br.netdev": "[NetDev]\nName=br0\nKind=bridge\n",
        "etc/systemd/network/20-br.network": (
            f"[Match]\nName=br0\n[Network]\nAddress={OTHER.addresses[0]}\n"
        ),
        "etc/systemd/network/50-lan1.network": (
            f"[Match]\nMACAddress={OTHER.mac}\nDriver=virtio_net\n[Network]\nBridge=br0\n"
        ),
    }
    (lan,) = PAIR.network_file()
    files[lan] += "VLAN=vlan5\n"
    guest = guests.start(Setup(pairs=(PAIR, OTHER), network_files=files))
    ping = f"ping -c 1 -W 30 198.18.0.1 && ping -c 1 -W 30 {OTHER.peer_addresses[0].split('/')[0]}"
    guest.run(ping)
    before = configuration(guest)
    for pair in (PAIR, OTHER):
        guest.plug_vf(pair)
    assert "vlan5 sits on" in left_alone(guest, PAIR.mac)["reason"]
    assert "port of bridge br0" in left_alone(guest, OTHER.mac)["reason"]
    guest.run(f"udevadm settle && {ping}")
    vfs = [nic.name for nic in look(guest).nics if not nic.virtio]
    assert but_for(vfs, configuration(guest)) == but_for(vfs, before)
    assert not look(guest).bonds

    guest.reboot()
    assert_becomes(lambda: where(wait_converged(guest)), ([], ["vf", "vf"]))
    wait_on_vf(guest, PAIR)
    # The end of the start-up does not wait for networkd.
    assert_becomes(lambda: guest.execute(ping).code, 0)
    assert "vlan5@bond0" in guest.run("ip -br link show vlan5")
    assert "master br0" in guest.run("ip link show bond1")
    guest.unplug_vf(PAIR)
    wait_on_standby(guest, PAIR)
    guest.run(ping)
    refused = guest.execute("guestagent undo")
    assert refused.code == 1
    assert "vlan5 uses bond0" in refused.stderr
    assert "bridge br0 uses bond1" in refused.stderr
    guest.run(ping)
