"""Sequence through which a guest of any network stack and release keeps its addresses.

From a NIC without a VF over hot-plug, what is done to the stack, unplug, re-plug, and boots
without the VF and with it, to ``guestagent undo``; under one probe between the boots.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lab.base.waiting import wait_until
from lab.image.flavour import Flavour, Stack, Suite
from lab.machine.guests import Guests
from lab.machine.machine import Machine
from lab.machine.monitor import Json
from lab.machine.setup import NicPair, Setup
from lab.network.wires import Network
from lab.probe.accounting import longest_gap_ms
from lab.probe.counters import Counters
from lab.probe.probe import Probe, Result
from tests.guest.seen import GAP_S, in_links, take_apart, wait_converged
from tests.guest.seen import Network as Links

PAIR = NicPair()
SETTLED_S = 120.0
LOOK_S = 0.5
MEMORY_MIB = 768
"""Memory of a guest with cloud-init."""
GAP_MS = 50.0
"""Limit of the loss of each flow at the hot-plug, for a stack that takes over with a gap."""

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
VF_FIRST = "echo softdep virtio_net pre: e1000e >/etc/modprobe.d/vf-first.conf"
"""Has the next boot find the VF before its standby, and give it the name that goes by the MAC."""
SLOWER = 3.0
"""How much longer than on the NIC itself what a stack takes away may be away from the bond, beside
``GAP_S``. Both are seconds of an emulated guest, whose processor others want as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressing:
    """Addresses of a guest as seen from outside, with the link that has them."""

    link: str
    addresses: frozenset[str]
    """Global ones, with prefix lengths."""
    gateways: frozenset[str]


def observe(guest: Machine) -> tuple[Addressing | None, Links]:
    """Return where the guest's addresses are (None: on no link or on several), and its links.

    By one command: a guest that is asked all the time has no time for its work.
    """
    asked = ("address show", "-4 route show default", "-6 route show default")
    shown = "; echo ,; ".join(f"ip -json -details {what} | grep . || echo []" for what in asked)
    links, *routes = guest.run_json(f"echo [; {shown}; echo ]")
    return addressing(links, [*routes[0], *routes[1]]), in_links(links)


def addressing(links: Json, routes: Json) -> Addressing | None:
    """Return where addresses and default routes are, None while they are on no link or several."""
    carriers = {
        link["ifname"]: frozenset(
            f"{item['local']}/{item['prefixlen']}"
            for item in link["addr_info"]
            if item["scope"] == "global" and not item.get("tentative")
        )
        for link in links
        if link["ifname"] != "lo"
    }
    found = {name: addresses for name, addresses in carriers.items() if addresses}
    if len(found) != 1 or any(route["dev"] not in found for route in routes):
        return None
    ((name, addresses),) = found.items()
    gateways = frozenset(route["gateway"] for route in routes)
    return Addressing(link=name, addresses=addresses, gateways=gateways)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One thing that was done while the probe ran, until all had come to rest."""

    name: str
    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Losses of a phase.

    Without what was not on its way yet: the kernel's own socket for echo replies holds some 170
    of them, so a guest that had no processor for longer refuses to make the next (K:
    net/ipv4/icmp.c, icmp_sk_init, icmp_push_reply (6.12)). It counts each, and nothing that a
    network loses.
    """

    lost: int
    unanswered: int
    gap_ms: float
    """The longest time in which one of the flows lost everything."""
    where: tuple[str, ...]
    """By flow: how many, and from when to when since the phase began."""

    @classmethod
    def during(cls, phase: Phase, result: Result, refused: int) -> Seen:
        """Return the losses of a phase, in which the guest refused that many echo replies."""
        losses = {
            flow.name: flow.lost_between(phase.begin_s, phase.end_s) for flow in result.flows
        }
        unanswered = len(losses["icmp"])
        if unanswered <= refused:
            losses["icmp"] = ()
        else:
            unanswered = 0
        where = []
        for name, found in losses.items():
            times_s = sorted(loss.sent_at_s - phase.begin_s for loss in found)
            if times_s:
                where.append(f"{name} {len(times_s)}: {times_s[0]:.3f}-{times_s[-1]:.3f} s")
        return cls(
            lost=sum(map(len, losses.values())),
            unanswered=unanswered,
            gap_ms=max(longest_gap_ms(found, result.rate_hz) for found in losses.values()),
            where=tuple(where),
        )


@dataclass
class Story:
    """A guest of one flavour, and what it had in the beginning."""

    guest: Machine
    network: Network
    begin_s: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        flavour = self.guest.setup.flavour
        self.guest.wait_ready()

        def complete() -> Addressing | None:
            found, _ = observe(self.guest)
            if found is None or len(found.addresses) != 2:
                return None
            return found if len(found.gateways) == 2 * flavour.wants_server else None

        found = wait_until(
            "the guest has its addresses", complete, timeout_s=SETTLED_S, interval_s=LOOK_S
        )
        assert found is not None
        self.before = found
        self._say("up")

    def wait(self, side: str) -> None:
        """Wait until all is as in the beginning: on the bond's VF or standby, or on the NIC.

        On the ``bare`` NIC, which its stack took apart by itself, the addresses are enough: after
        a restart dhcpcd may leave the kernel's own beside them.
        """
        seen: list[object] = []

        def there() -> bool:
            found, network = observe(self.guest)
            seen[:] = [found, network]
            bond, vf, standby = network.bond(PAIR), network.vf(PAIR), network.standby(PAIR)
            if side == "bare":
                return found is not None and found.addresses >= self.before.addresses
            if found is None or (found.addresses, found.gateways) != (
                self.before.addresses,
                self.before.gateways,
            ):
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
            what = f"as in the beginning, on the {side}"
            wait_until(what, there, timeout_s=SETTLED_S, interval_s=LOOK_S)
        except Exception as error:
            error.add_note(f"wanted: {self.before}\nseen: {seen}")
            raise
        if side != "nic":
            wait_converged(self.guest, timeout_s=SETTLED_S)

    def reboot(self, side: str) -> None:
        """Boot again, until all is as in the beginning."""
        self.guest.reboot()
        self.wait(side)
        self._say(f"boot on the {side}")

    def probed(self, *changes: tuple[str, Callable[[], object], str]) -> dict[str, Seen]:
        """Return the probe's result for changes, each with its name and the role at its end."""
        phases = []
        counted = {}
        with Probe(self.network) as probe:
            probe.start(self.guest)
            counters = Counters(self.network, self.guest)
            for name, change, side in changes:
                begin_s = time.monotonic()
                change()
                self.wait(side)
                phases.append(Phase(name=name, begin_s=begin_s, end_s=time.monotonic()))
                counted[name] = counters.since()
                self._say(name)
            result = probe.stop(self.guest)
        assert result.tcp.survived or {side for _, _, side in changes} == {"bare"}, result.tcp
        stall = result.tcp
        seen = {}
        for phase in phases:
            refused = counted[phase.name]["guest"].get("IcmpOutErrors", 0)
            found = Seen.during(phase, result, refused)
            mine = phase.begin_s <= stall.longest_stall_at_s < phase.end_s
            print(f"{phase.name}: {found}", f"tcp {stall.longest_stall_ms:.0f}" if mine else "")
            if found.lost:
                print(f"{phase.name}: counted meanwhile: {counted[phase.name]}")
            seen[phase.name] = found
        return seen

    def _say(self, what: str) -> None:
        print(f"{time.monotonic() - self.begin_s:.1f} s: {what}", flush=True)


def name_of(flavour: Flavour) -> str:
    """Return the name of a flavour for the name of a test."""
    return f"{flavour.suite}-{flavour.stack}-{'dhcp' if flavour.dhcp else 'static'}"


def _taken_apart_by(flavour: Flavour) -> tuple[str, ...]:
    """Return the commands at which the stack itself removes the addresses and restores them.

    That is what it does to any NIC: the story measures it there, before there is a VF.

    - A restart of ifupdown, which is ``ifdown -a`` and ``ifup -a``.
    - ``netplan apply`` of Debian 12: it has networkd reconfigure each link (netplan:
      netplan/cli/commands/apply.py (0.106)), and networkd then removes all that it has put
      there, whatever KeepConfiguration= says (systemd: src/network/networkd-link.c,
      link_reconfigure_impl (252)).
    """
    match flavour.suite, flavour.stack:
        case _, Stack.IFUPDOWN:
            return ("restart",)
        case Suite.BOOKWORM, Stack.CLOUD_INIT:
            return ("reload",)
    return ()


def tell(guests: Guests, network: Network, flavour: Flavour) -> None:
    """Tell the story of a flavour. Raises AssertionError where it goes wrong."""
    stack = flavour.stack
    assert stack is not None
    guest = guests.boot(Setup(flavour=flavour, memory_mib=MEMORY_MIB))
    story = Story(guest, network)
    clients = {lease.client for lease in network.leases()}

    apart = _taken_apart_by(flavour)
    commands = {
        "reload": lambda: guest.run(RELOADS[stack], timeout_s=SETTLED_S),
        "restart": lambda: guest.run(f"systemctl restart {UNITS[stack]}", timeout_s=SETTLED_S),
    }
    bare = {}
    for name in apart:
        (bare[name],) = story.probed((f"{name} on the NIC", commands[name], "bare")).values()
        story.reboot("nic")  # what it left behind is not the bond's

    seen = story.probed(
        ("plug", guest.plug_vf, "vf"),
        *((name, tell_it, "vf") for name, tell_it in commands.items()),
        ("unplug", guest.unplug_vf, "standby"),
        ("re-plug", guest.plug_vf, "vf"),
    )
    if stack in LOSSLESS or not flavour.dhcp:
        assert seen["plug"].lost == 0, seen["plug"]
    assert seen["plug"].gap_ms <= GAP_MS, seen["plug"]
    for name in commands:
        if name in bare:
            allowed_ms = SLOWER * bare[name].gap_ms + GAP_S * 1000
            assert seen[name].gap_ms <= allowed_ms, (seen[name], bare[name])
        else:
            assert seen[name].lost == 0, seen[name]
    assert seen["unplug"].gap_ms <= GAP_S * 1000, seen["unplug"]  # the driver's way out
    assert seen["re-plug"].lost == 0, seen["re-plug"]

    guest.unplug_vf()
    story.reboot("standby")
    guest.plug_vf()
    if stack is Stack.CLOUD_INIT:
        guest.run(VF_FIRST)
    story.reboot("vf")
    undone = story.probed(("undo", lambda: take_apart(guest), "nic"))
    assert undone["undo"].lost == 0 or (flavour.dhcp and stack is Stack.IFUPDOWN), undone
    assert {lease.client for lease in network.leases()} == clients, "one client all the time"
    if UNITS[stack] == "systemd-networkd":
        asked = f"networkctl --no-legend --no-pager list {observe(guest)[1].standby(PAIR).name}"
        wait_until(
            "networkd goes on with the NIC",
            lambda: "configured" in guest.run(asked).split(),
            timeout_s=SETTLED_S,
            interval_s=LOOK_S,
        )
