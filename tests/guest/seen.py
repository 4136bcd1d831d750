"""Views of a guest's network as values, and waits for them, for the tests of this tier."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_interface

from guestagent.clock import Deadline
from guestagent.errors import DeadlineError
from lab.base.waiting import wait_until
from lab.machine.machine import Machine
from lab.machine.monitor import Json
from lab.machine.setup import NicPair
from lab.network.wires import Network as Wires
from lab.probe.probe import Probe, Result
from lab.probe.usage import Usage, agent_usage

CONVERGED_S = 120.0
"""A deadline, not a claim: what takes longer has not happened."""

KILLED_S = 900.0
"""As ``CONVERGED_S``, for an agent that is killed at each of ten steps: on a busy machine a guest
takes half a minute for each start."""

NOW = "$(date +%s.%6N)"
"""For the shell of a guest: the moment from which on somebody follows the journal. What is started
to follow it hears nothing yet when the next thing is done."""

GAP_S = 1.5
"""A deadline as well: how long what must be lost may take. ``probed`` sees an outage that does
not end for longer than this; how long a gap really is the bench measures."""


UNDO_IS_LATE = "not taken apart in time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """A physical NIC."""

    name: str
    mac: str
    """The permanent one."""
    virtio: bool
    up: bool
    upper: str | None
    addresses: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bond:
    """A bond with its ports."""

    name: str
    ifindex: int
    mac: str
    alias: str
    carrier: bool
    ports: frozenset[str]
    active: str | None
    primary: str | None
    receives_on_both: bool
    addresses: frozenset[str]
    """Global ones, with prefix length."""
    options: frozenset[tuple[str, str]]
    """All that the kernel reports but what says which ports there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """NICs and bonds at one moment."""

    nics: tuple[Nic, ...]
    bonds: tuple[Bond, ...]

    def vf(self, pair: NicPair) -> Nic | None:
        """Return the VF of a pair."""
        return next((nic for nic in self.nics if nic.mac == pair.mac and not nic.virtio), None)

    def standby(self, pair: NicPair) -> Nic:
        """Return the virtio NIC of a pair."""
        return next(nic for nic in self.nics if nic.mac == pair.mac and nic.virtio)

    def bond(self, pair: NicPair) -> Bond | None:
        """Return the bond of a pair."""
        return next((bond for bond in self.bonds if bond.mac == pair.mac), None)

    def on_vf(self, pair: NicPair) -> bool:
        """Whether a pair is where it shall be while the VF is there."""
        bond, vf, standby = self.bond(pair), self.vf(pair), self.standby(pair)
        return (
            bond is not None
            and vf is not None
            and bond.ports == {vf.name, standby.name}
            and bond.active == bond.primary == vf.name
            and bond.addresses == _own(pair)
            and not vf.addresses
            and not standby.addresses
            and bond.alias.startswith("guestagent:")
        )

    def on_standby(self, pair: NicPair) -> bool:
        """Whether a pair is where it shall be while the VF is away."""
        bond, standby = self.bond(pair), self.standby(pair)
        return (
            bond is not None
            and self.vf(pair) is None
            and bond.ports == {standby.name}
            and bond.active == standby.name
            and bond.addresses == _own(pair)
            and not standby.addresses
        )


def configure(guest: Machine, match: str) -> None:
    """Have networkd find the guest's NIC in this way, and give it default routes."""
    pair = guest.setup.pairs[0]
    (path,) = pair.network_file()
    lines = [
        *("[Match]", match, "[Network]", "IPv6AcceptRA=no"),
        *(f"Address={address}" for address in pair.addresses),
        *(f"Gateway={address.split('/')[0]}" for address in pair.peer_addresses),
    ]
    guest.write_file(f"/{path}", "\n".join(lines) + "\n")
    guest.run("networkctl reload")

    def done() -> bool:
        routes = "ip route show default; ip -6 route show default"
        state = "networkctl status --json=short enp1s0"
        configured = guest.run_json(state)["AdministrativeState"] == "configured"
        return configured and guest.run(routes).count("default via") == 2

    wait_until("networkd has configured the NIC anew", done, timeout_s=CONVERGED_S)


def look(guest: Machine) -> Network:
    """Return the guest's network as it is now."""
    return in_links(guest.ip("address", "show"))


def in_links(links: Json) -> Network:
    """Return the network that ``ip -json -details address show`` tells of."""
    return Network(
        nics=tuple(_nic(link) for link in links if "parentdev" in link),
        bonds=tuple(_bond(link, links) for link in links if _kind(link) == "bond"),
    )


def wait_on_vf(
    guest: Machine, pair: NicPair | None = None, *, timeout_s: float = CONVERGED_S
) -> Bond:
    """Wait until a pair (the first) is on its VF, and return its bond."""
    return _wait(guest, pair or guest.setup.pairs[0], Network.on_vf.__name__, timeout_s=timeout_s)


def wait_on_standby(guest: Machine, pair: NicPair | None = None) -> Bond:
    """Wait until a pair (the first) is on its standby, and return its bond."""
    return _wait(guest, pair or guest.setup.pairs[0], Network.on_standby.__name__)


def wait_nics(guest: Machine, count: int) -> None:
    """Wait until a guest has found so many physical NICs, and udev has named them.

    For a guest whose agent does not run; elsewhere ``wait_on_vf`` waits for more than this.
    """
    wait_until(
        f"the guest has {count} NICs",
        lambda: len(look(guest).nics) == count,
        timeout_s=CONVERGED_S,
    )
    guest.run("udevadm settle")


def wait_converged(guest: Machine, *, timeout_s: float = CONVERGED_S) -> Json:
    """Wait until the running agent has nothing to do now or later; return its status."""

    def converged() -> Json:
        status = guest.run_json("guestagent status --json")
        later = any(pair["receives_on_both"] for pair in status["pairs"])
        done = status["converged"] and status["agent"] == "running" and not later
        return status if done else None

    return wait_until("the agent has converged", converged, timeout_s=timeout_s)


def configuration(guest: Machine) -> str:
    """Return addresses, routes and ports as lines, to compare two moments.

    Numbers of links, lifetimes and the order are left out; an address whose DAD is under way
    is waited for.
    """
    tentative = 'test -z "$(ip -6 -oneline address show tentative)"'
    wait_until("DAD has ended", lambda: guest.execute(tentative).code == 0, timeout_s=CONVERGED_S)
    shown = guest.run(
        "ip -o link show | sed 's/^[0-9]*: //; s/qdisc .*//' | grep -v @; ip -br address; "
        "ip route show table all | sed 's/ expires [0-9]*sec//'"
    )
    return "\n".join(sorted(shown.splitlines()))


def assert_becomes(read: Callable[[], object], expected: object) -> None:
    """Assert that what is read is as expected, or is within ``CONVERGED_S``.

    For what follows by itself, some time after what was asked for has been done.
    """
    seen: list[object] = []

    def there() -> bool:
        seen[:] = [read()]
        return seen == [expected]

    try:
        wait_until("as expected", there, timeout_s=CONVERGED_S)
    except DeadlineError:
        if not seen:  # the deadline is of reading, not of what was read
            raise
    assert seen == [expected], f"seen:\n{seen[0]}\nexpected:\n{expected}"


def wait_at_rest(guest: Machine) -> Usage:
    """Wait until the agent has slept for a second on end; return what it takes then.

    It has then seen the end of whoever asked it, and what followed from its own work.
    """
    usages: list[Usage] = []

    def slept() -> Usage | None:
        usages.append(agent_usage(guest))
        wakeups = [usage.wakeups for usage in usages[-2:]]
        return usages[-1] if len(wakeups) == 2 and len(set(wakeups)) == 1 else None

    found = wait_until("the agent sleeps", slept, timeout_s=CONVERGED_S, interval_s=1.0)
    assert found is not None
    return found


def probed(network: Wires, guest: Machine, change: Callable[[], object]) -> Result:
    """Return the probe's result during ``change`` and for two seconds after it."""
    with Probe(network) as probe:
        probe.start(guest)
        change()
        time.sleep(2)
        result = probe.stop(guest)
    print({flow.name: (flow.sent, len(flow.lost)) for flow in result.flows}, result.tcp)
    print(f"replies that the guest's kernel could not send: {result.unsent_replies}")
    for flow in result.flows:
        times_s = sorted(loss.sent_at_s - result.begin_s for loss in flow.lost)
        if times_s:
            print(f"{flow.name}: lost from {times_s[0]:.3f} to {times_s[-1]:.3f} s")
    return result


def take_apart(guest: Machine) -> float:
    """Have the agent take its bonds apart; return the seconds that this took.

    An undo that exceeds its own time limit says so and goes on. The claim is that it ends, so it
    is repeated then, as its message advises: each question to a network stack is a process, which
    takes seconds in an emulated guest on a busy machine.
    """
    begin_s = time.monotonic()
    deadline = Deadline.after(CONVERGED_S)
    while (done := guest.execute("guestagent undo")).code != 0:
        print(f"undo: exit code {done.code}: {done.stderr}")
        assert UNDO_IS_LATE in done.stderr, done.stderr
        assert not deadline.expired, done.stderr
    return time.monotonic() - begin_s


def assert_one_gap(result: Result, *, within_s: float = GAP_S) -> None:
    """Assert that each flow had at most a gap shorter than ``within_s``, and that TCP survived."""
    assert result.tcp.survived, result.tcp
    assert {
        flow.name: len(flow.lost)
        for flow in result.flows
        if len(flow.lost) / result.rate_hz >= within_s
    } == {}


def assert_nothing_lost(result: Result) -> None:
    """Assert that whatever was sent has arrived, and that the TCP connection lives."""
    lost = {flow.name: len(flow.lost) for flow in result.flows}
    assert (result.lost_on_the_way, result.tcp.survived) == (0, True), (lost, result.tcp)


def _wait(guest: Machine, pair: NicPair, state: str, *, timeout_s: float = CONVERGED_S) -> Bond:
    seen: list[Network] = []

    def there() -> Bond | None:
        seen[:] = [look(guest)]
        return seen[0].bond(pair) if getattr(seen[0], state)(pair) else None

    try:
        found = wait_until(f"{pair.mac} {state}", there, timeout_s=timeout_s)
    except Exception as error:
        error.add_note(f"seen: {seen}")
        raise
    assert found is not None
    return found


def _own(pair: NicPair) -> frozenset[str]:
    """Return the addresses of a pair as the kernel writes them."""
    return frozenset(str(ip_interface(address)) for address in pair.addresses)


def _nic(link: Json) -> Nic:
    return Nic(
        name=link["ifname"],
        mac=link.get("permaddr", link["address"]),
        virtio=link["parentbus"] == "virtio",
        up="UP" in link["flags"],
        upper=link.get("master"),
        addresses=_addresses(link),
    )


def _bond(link: Json, links: Json) -> Bond:
    data = link["linkinfo"]["info_data"]
    state = {"active_slave", "primary", "all_slaves_active", "ad_info"}
    return Bond(
        name=link["ifname"],
        ifindex=link["ifindex"],
        mac=link["address"],
        alias=link.get("ifalias", ""),
        carrier="LOWER_UP" in link["flags"],
        ports=frozenset(item["ifname"] for item in links if item.get("master") == link["ifname"]),
        active=data.get("active_slave"),
        primary=data.get("primary"),
        receives_on_both=data["all_slaves_active"] != 0,
        addresses=_addresses(link),
        options=frozenset((key, str(data[key])) for key in data if key not in state),
    )


def _addresses(link: Json) -> frozenset[str]:
    return frozenset(
        f"{item['local']}/{item['prefixlen']}"
        for item in link["addr_info"]
        if item.get("scope") == "global"
    )


def _kind(link: Json) -> str | None:
    kind: str | None = link.get("linkinfo", {}).get("info_kind")
    return kind
