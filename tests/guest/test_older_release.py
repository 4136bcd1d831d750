"""Debian 12: systemd 252, Python 3.11, Linux 6.1, pyroute2 0.7.2."""

from __future__ import annotations

from ipaddress import ip_interface

from lab.base.waiting import wait_until
from lab.image.flavour import Flavour, Stack, Suite
from lab.machine.guests import Guests
from lab.machine.machine import Machine
from lab.machine.setup import Setup
from lab.network.wires import Network
from tests.guest.seen import CONVERGED_S
from tests.guest.test_switch import connected

FLAVOUR = Flavour(suite=Suite.BOOKWORM, stack=Stack.NETWORKD)
EXPOSURE_LIMIT = 17
"""As in the lint tier, whose systemd is that of the machine."""


def test_a_guest_of_debian_12_has_its_addresses_and_its_host_is_served(
    guests: Guests, network: Network
) -> None:
    machine = guests.boot(Setup(flavour=FLAVOUR))
    machine.wait_ready()
    machine.run(". /etc/os-release && test $VERSION_ID = 12 && uname --kernel-release | grep ^6.1")
    assert_addresses_were_asked_for(machine, network)
    assert_services_are_well(machine)

    with connected(machine) as host:
        assert host.ask("hello")["agent"] == "guestagent"
        machine.plug_vf()
        wait_until("the VF carries", lambda: actives(machine) == ["vf"], timeout_s=CONVERGED_S)
        for to in ("standby", "vf"):
            (pair,) = host.ask("switch", to=to)["pairs"]
            assert pair["active"] == to


def assert_addresses_were_asked_for(machine: Machine, network: Network) -> None:
    """The lab's server gave the IPv4 address, its advertisements made the IPv6 one."""
    machine.run("test $(networkctl list --no-legend | wc -l) -gt 0 && ! pgrep NetworkManager")
    pair = machine.setup.pairs[0]
    wait_until("there is a lease", network.leases, timeout_s=CONVERGED_S)
    (lease,) = network.leases()
    assert (lease.mac, f"{lease.address}/24") == (pair.mac, pair.addresses[0])
    prefix = str(ip_interface(pair.addresses[1]).network.network_address).rstrip(":")
    advertised = f"ip -6 address show dynamic | grep {prefix}:"
    wait_until(
        "the advertised prefix",
        lambda: machine.execute(advertised).code == 0,
        timeout_s=CONVERGED_S,
    )


def assert_services_are_well(machine: Machine) -> None:
    """Every line of the units is understood, and the service is as shut in as elsewhere."""
    assert machine.run("systemctl list-units --failed --no-legend") == ""
    machine.run("systemctl is-active guestagent.service")
    said = machine.run("journalctl --boot --identifier=systemd --output=cat")
    assert [line for line in said.splitlines() if "/guestagent" in line] == []
    for unit in ("guestagent.service", "guestagent-early.service"):
        machine.run(f"systemd-analyze security --no-pager --threshold={EXPOSURE_LIMIT} {unit}")
    # Its own /dev has no disk, and the other one none that it may open.
    inside = "nsenter --mount --target $(systemctl show --property=MainPID --value guestagent)"
    machine.run(f"! {inside} ls /dev/vda")


def actives(machine: Machine) -> list[str]:
    """Return where the traffic of each pair is."""
    status = machine.run_json("guestagent status --json")
    return [pair["active"] for pair in status["pairs"]]
