"""Whoever owns the addresses goes on owning them: one story for each network stack and release.

The same addresses all the time, from a NIC without a VF over hot-plug, unplug, re-plug, what is
done to the stack, and boots with the VF and without it, to ``guestagent undo``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from lab.flavour import Flavour, Stack, Suite
from lab.guests import Guests
from lab.machine import Machine
from lab.network import Network
from lab.probe import Probe, Result
from lab.setup import Pair, Setup
from lab.waiting import wait_until
from tests.guest.seen import look, wait_converged

PAIR = Pair()
SETTLED_S = 90.0
GAP_MS = 50.0
"""What each flow may lose at the hot-plug where a stack takes over with a gap."""

UNITS = {
    Stack.NETWORKD: "systemd-networkd",
    Stack.CLOUD_INIT: "systemd-networkd",
    Stack.NETWORKMANAGER: "NetworkManager",
    Stack.IFUPDOWN: "networking",
}
RELOADS = {
    Stack.NETWORKD: "networkctl reload",
    Stack.CLOUD_INIT: "netplan apply",
    Stack.NETWORKMANAGER: "nmcli connection reload && nmcli device reapply bond0",
    Stack.IFUPDOWN: f"ifup -a; ! ifup {PAIR.standby_name}; ifdown {PAIR.standby_name}",
}
LOSSLESS = {Stack.NETWORKD, Stack.CLOUD_INIT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressing:
    """What the outside knows of a guest, and on which of its links that is."""

    link: str
    addresses: frozenset[str]
    """Global ones, with prefix lengths."""
    gateways: frozenset[str]


def addressing(guest: Machine) -> Addressing | None:
    """Return where the guest's addresses are, None while they are on no link or on several."""
    carriers = {
        link["ifname"]: frozenset(
            f"{item['local']}/{item['prefixlen']}"
            for item in link["addr_info"]
            if item["scope"] == "global" and not item.get("tentative")
        )
        for link in guest.ip("address", "show")
        if link["ifname"] != "lo"
    }
    found = {name: addresses for name, addresses in carriers.items() if addresses}
    if len(found) != 1:
        return None
    ((name, addresses),) = found.items()
    routes = [
        route
        for family in ("-4", "-6")
        for route in guest.run_json(f"ip -json {family} route show default") or ()
    ]
    if any(route["dev"] != name for route in routes):
        return None
    gateways = frozenset(route["gateway"] for route in routes)
    return Addressing(link=name, addresses=addresses, gateways=gateways)


class Story:
    """A guest of one flavour, and what it had in the beginning."""

    def __init__(self, guest: Machine, network: Network) -> None:
        self.guest = guest
        self.network = network
        self.flavour = guest.setup.flavour
        seen: list[Addressing] = []

        def complete() -> bool:
            found = addressing(guest)
            seen[:] = [found] if found is not None else []
            routed = not self.flavour.wants_server or (found and len(found.gateways) == 2)
            return found is not None and len(found.addresses) == 2 and bool(routed)

        wait_until("the guest has its addresses", complete, timeout_s=SETTLED_S)
        self.before = seen[0]

    def wait(self, side: str) -> None:
        """Wait until all is as in the beginning: on the bond's VF or standby, or on the NIC."""
        seen: list[object] = []

        def there() -> bool:
            found, network = addressing(self.guest), look(self.guest)
            seen[:] = [found, network]
            same = found is not None and (found.addresses, found.gateways) == (
                self.before.addresses,
                self.before.gateways,
            )
            bond, vf, standby = network.bond(PAIR), network.vf(PAIR), network.standby(PAIR)
            if not same or found is None:
                return False
            if side == "nic":
                return bond is None and found.link == standby.name
            active = vf if side == "vf" else standby
            return (
                bond is not None
                and active is not None
                and found.link == bond.name
                and bond.active == active.name
                and bond.ports == {nic.name for nic in (vf, standby) if nic is not None}
            )

        try:
            wait_until(f"as in the beginning, on the {side}", there, timeout_s=SETTLED_S)
        except Exception as error:
            error.add_note(f"wanted: {self.before}\nseen: {seen}")
            raise
        if side != "nic":
            wait_converged(self.guest, timeout_s=SETTLED_S)

    def probed(self, what: str, change: Callable[[], object], side: str) -> Result:
        """Return what the probe saw while ``change`` was made and all came to rest."""
        with Probe(self.network) as probe:
            probe.start(self.guest)
            change()
            self.wait(side)
            time.sleep(3)
            result = probe.stop(self.guest)
        lost = {flow.name: len(flow.lost) for flow in result.flows}
        print(f"{what}: lost {lost} of {result.sent}, tcp {result.tcp}")
        self.wait(side)
        assert result.tcp.survived, what
        return result


FLAVOURS = [Flavour(suite=Suite.TRIXIE, stack=Stack.NETWORKD, dhcp=True)]


@pytest.mark.parametrize(
    "flavour", FLAVOURS, ids=lambda item: f"{item.suite}-{item.stack}-{item.dhcp}"
)
def test_the_owner_of_the_addresses_goes_on_owning_them(
    guests: Guests, network: Network, flavour: Flavour
) -> None:
    guest = guests.boot(Setup(flavour=flavour))
    guest.wait_ready()
    story = Story(guest, network)
    clients = {lease.client for lease in network.leases()}

    plugged = story.probed("plug", guest.plug_vf, "vf")
    if flavour.stack in LOSSLESS or not flavour.dhcp:
        assert plugged.lost == 0
    else:
        most = max(len(flow.lost) for flow in plugged.flows)
        assert most * 1000 / plugged.rate_hz <= GAP_MS
    story.probed("unplug", guest.unplug_vf, "standby")
    assert story.probed("re-plug", guest.plug_vf, "vf").lost == 0
    assert flavour.stack is not None
    reload, unit = RELOADS[flavour.stack], UNITS[flavour.stack]
    story.probed("reload", lambda: guest.run(reload), "vf")
    story.probed("restart", lambda: guest.run(f"systemctl restart {unit}"), "vf")
    guest.reboot()
    story.wait("vf")
    guest.unplug_vf()
    story.wait("standby")
    guest.reboot()
    story.wait("standby")
    story.probed("undo", lambda: guest.run("guestagent undo"), "nic")
    assert {lease.client for lease in network.leases()} == clients, "one client all the time"
