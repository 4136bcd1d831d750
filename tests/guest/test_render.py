"""The static configuration that the agent leaves behind works without it, in every stack."""

from __future__ import annotations

from ipaddress import ip_interface

from lab.base.waiting import wait_until
from lab.image.flavour import Flavour, Stack
from lab.machine.guests import Guests
from lab.machine.machine import Machine
from lab.machine.setup import NicPair, Setup
from tests.guest.seen import (
    CONVERGED_S,
    Bond,
    assert_becomes,
    look,
    wait_converged,
    wait_nics,
    wait_on_vf,
)

PAIR = NicPair()
STATIC = "/srv/static"
PING = "ping -c 1 -W 5 198.18.0.1"
"""Its packets may be lost: without the agent a VF is used as soon as it has a carrier, which is
before it takes what it is given to send."""
PURGE_S = 600.0
OWN = frozenset(str(ip_interface(address)) for address in PAIR.addresses)
ROUTED = {
    "etc/systemd/network/50-lan0.network": "\n".join(
        [
            *("[Match]", f"MACAddress={PAIR.mac}", "[Network]", "IPv6AcceptRA=no"),
            *(f"Address={address}" for address in PAIR.addresses),
            *("[Route]", "Destination=192.0.2.0/24", "Gateway=198.18.0.1", "Table=100", ""),
        ]
    )
}


def wait_alone(guest: Machine) -> Bond:
    """Wait until the bond that no agent made carries the addresses on the VF, and return it."""

    def on_vf() -> Bond | None:
        network = look(guest)
        bond, vf, standby = network.bond(PAIR), network.vf(PAIR), network.standby(PAIR)
        there = (
            bond is not None
            and vf is not None
            and bond.ports == {vf.name, standby.name}
            and bond.active == vf.name
            and bond.addresses == OWN
            and not (vf.addresses or standby.addresses or bond.alias)
        )
        return bond if there else None

    bond = wait_until("the static bond is on its VF", on_vf, timeout_s=CONVERGED_S)
    assert bond is not None
    return bond


def wait_on_the_other(guest: Machine) -> None:
    """Wait until the static bond has its standby alone."""

    def on_standby() -> bool:
        bond = look(guest).bond(PAIR)
        return bond is not None and bond.ports == {look(guest).standby(PAIR).name}

    wait_until("the static bond is on its standby", on_standby, timeout_s=CONVERGED_S)


def live_without_the_agent(guest: Machine, directory: str) -> tuple[Bond, Bond]:
    """Remove the agent, put its files in place and boot; take the VF and give it elsewhere.

    Return the bond before and after that.
    """
    guest.run("dpkg --purge guestagent 2>&1", timeout_s=PURGE_S)
    guest.run(f"cp --preserve=mode {STATIC}/* {directory}")
    guest.reboot()
    first = wait_alone(guest)
    assert_becomes(lambda: guest.execute(PING).code, 0)
    link_local = "ip -6 -oneline address show dev"
    ports = " ".join(first.ports)
    assert guest.run(f"for port in {ports}; do {link_local} $port; done") == ""
    guest.unplug_vf()
    wait_on_the_other(guest)
    assert_becomes(lambda: guest.execute(PING).code, 0)
    guest.plug_vf(bus="rp2")
    second = wait_alone(guest)
    assert second.active != first.active, "it returned under another name"
    assert_becomes(lambda: guest.execute(PING).code, 0)
    return first, second


def rendered(guest: Machine, target: str) -> None:
    """Let the agent write its files, and show them."""
    done = guest.execute(f"guestagent render {target} --output {STATIC}")
    assert done.code == 0, done.stderr
    print(guest.run(f"tail -v -n +1 {' '.join(done.stdout.split())}"))
    again = guest.execute(f"guestagent render {target} --output {STATIC}")
    assert (again.code, "is not overwritten" in again.stderr) == (1, True)


def test_networkd_goes_on_without_the_agent(guests: Guests) -> None:
    guest = guests.start(Setup(network_files=ROUTED))
    guest.plug_vf()
    wait_on_vf(guest)
    wait_converged(guest)
    rendered(guest, "networkd")
    for bond in live_without_the_agent(guest, "/etc/systemd/network"):
        assert bond.primary == bond.active
    guest.run("ip route show table 100 | grep 192.0.2.0/24")


def test_netplan_goes_on_without_the_agent(guests: Guests) -> None:
    guest = guests.start(Setup(flavour=Flavour(stack=Stack.CLOUD_INIT, dhcp=False)))
    guest.run("systemctl stop guestagent")
    guest.plug_vf()
    wait_nics(guest, 2)
    rendered(guest, "netplan")
    # The NIC's own definition goes, and cloud-init, which wrote it, leaves the network alone.
    guest.write_file("/etc/cloud/cloud.cfg.d/99-own.cfg", "network: {config: disabled}\n")
    guest.run("rm /etc/netplan/50-cloud-init.yaml")
    for bond in live_without_the_agent(guest, "/etc/netplan"):
        assert bond.primary == bond.active
