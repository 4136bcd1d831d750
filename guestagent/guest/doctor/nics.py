"""Checks of NICs, pairs and bonds. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from guestagent.findings import Finding, Severity, error, note, warning
from guestagent.guest.core.link import STANDBY_DRIVER, Link
from guestagent.guest.core.pair import Pair
from guestagent.guest.core.pairing import pair_up
from guestagent.guest.core.planner import plan
from guestagent.guest.core.policy import FAIL_OVER_MAC_ACTIVE, FAIL_OVER_MAC_NONE
from guestagent.guest.doctor.facts import GuestFacts, NicFacts

SENT_WITHOUT_ANSWER = 20
"""Packets sent after which a NIC that has received none is suspicious."""
_SCOPE_GLOBAL = 0


def left_alone(facts: GuestFacts) -> Iterator[Finding]:
    """Report NICs with one MAC that are no pair, and steps that wait for the next boot."""
    decided = plan(facts.snapshot, facts.policy)
    for item in decided.refusals:
        yield Finding(
            severity=Severity.NOTE if item.wanted else Severity.ERROR,
            subject=f"{item.mac} ({', '.join(item.links)})",
            message=f"left alone: {item.reason}",
            hint=item.hint,
        )
    for text in decided.waiting:
        yield note(
            "pair",
            text,
            hint="nothing: it is done when the state is there",
        )


def made_up_mac(facts: GuestFacts) -> Iterator[Finding]:
    """Find a VF without a pair because its driver has made up its MAC."""
    for link in facts.snapshot.links:
        nic = facts.nic(link.ifindex)
        if nic is not None and nic.made_up_mac and link.driver != STANDBY_DRIVER:
            yield error(
                link.name,
                f"its driver has made up its MAC {link.permanent_address or link.address}:"
                " the host has set none, so it pairs with no virtio-net NIC",
                hint="set the MAC of the pair on the host before the VF is attached:"
                " ip link set PF vf NUMBER mac ADDRESS",
            )


def changed_mac(facts: GuestFacts) -> Iterator[Finding]:
    """Find a VF whose MAC was changed, and a bond that takes the MAC of its active port."""
    for pair, vf, _ in _vfs(facts):
        state = pair.state
        wanted = facts.policy.of_pair(pair.mac).options.fail_over_mac
        mode = wanted if state is None else state.fail_over_mac
        joined = vf.is_port_of(pair.bond)
        if vf.address != pair.mac and not joined:
            writes = mode == FAIL_OVER_MAC_NONE
            then = (
                "writes it back when it joins, which its driver may refuse"
                if writes
                else "would take over the wrong one"
            )
            yield Finding(
                severity=Severity.WARNING if writes else Severity.ERROR,
                subject=vf.name,
                message=f"its MAC was changed to {vf.address} and its own is {pair.mac}:"
                f" the bond {then}",
                hint=f"ip link set {vf.name} down && ip link set {vf.name} address {pair.mac};"
                " find out which program changed it",
            )
        if mode == FAIL_OVER_MAC_ACTIVE:
            yield note(
                pair.label,
                "fail-over-mac is active: at each switch the kernel forgets all neighbours,"
                " and what is sent waits until they are found again",
                hint="nothing if the VF's driver lets nobody write its MAC; otherwise take"
                ' fail-over-mac = "active" out of guestagent.toml (a bond that exists keeps it'
                " until the next boot)",
            )


def mtu(facts: GuestFacts) -> Iterator[Finding]:
    """Find a VF whose largest MTU is below the bond's, and ports whose MTU differs from it."""
    for pair, vf, nic in _vfs(facts):
        wanted = pair.bond.mtu if pair.bond is not None else pair.standby.mtu
        if nic is not None and nic.max_mtu is not None and nic.max_mtu < wanted:
            yield error(
                vf.name,
                f"it takes an MTU of at most {nic.max_mtu} and the pair has {wanted}: it"
                " cannot join the bond",
                hint="raise the MTU of the PF on the host, or lower that of the guest's"
                " configuration",
            )
    for pair in pair_up(facts.snapshot, facts.policy).pairs:
        for port in _ports(facts, pair):
            if pair.bond is not None and port.mtu != pair.bond.mtu:
                yield error(
                    port.name,
                    f"its MTU is {port.mtu} and that of {pair.bond.name} is {pair.bond.mtu}:"
                    " longer packets are lost on it",
                    hint=f"ip link set {pair.bond.name} mtu {pair.bond.mtu} sets all ports",
                )


def silent_vf(facts: GuestFacts) -> Iterator[Finding]:
    """Find a VF that carries the traffic and receives nothing: another VLAN or MAC filter."""
    for pair, vf, nic in _vfs(facts):
        state = pair.state
        active = state is not None and state.active == vf.ifindex
        if active and nic is not None and nic.received == 0 and nic.sent >= SENT_WITHOUT_ANSWER:
            yield error(
                vf.name,
                f"it carries the traffic of {pair.label}, has"
                f" sent {nic.sent} packets and received none",
                hint="compare VLAN and MAC of the VF with those of the virtio-net NIC's port on"
                " the host (ip link show PF); `guestagent switch standby` helps for now",
            )


def rp_filter(facts: GuestFacts) -> Iterator[Finding]:
    """Find a reverse path filter that drops packets during a take-over.

    While addresses move to the bond, packets still arrive on the NIC. The agent suspends the
    NIC's own filter meanwhile; a filter for all links stays (K: net/ipv4/fib_frontend.c,
    __fib_validate_source (6.12)).
    """
    for link in facts.snapshot.links:
        nic = facts.nic(link.ifindex)
        if nic is None or link.driver != STANDBY_DRIVER or link.upper is not None:
            continue
        if facts.all_are_filtered and nic.addresses:
            yield warning(
                link.name,
                "a reverse path filter is set for all links: packets on their way to this NIC"
                " when its addresses move to a bond are lost",
                hint="before a VF is plugged for the first time, set it for each link and set"
                " net.ipv4.conf.all.rp_filter to 0",
            )


def firewall(facts: GuestFacts) -> Iterator[Finding]:
    """Find a packet filter that names a NIC and no bond.

    The traffic of the NIC passes through the bond once there is one.
    """
    names = {facts.policy.bond_name, *(item.bond_name or "" for item in facts.policy.pairs)}
    names |= {item.name for item in facts.snapshot.links if item.ours}
    bonds = "|".join(re.escape(name).replace("%d", r"\d+") for name in names if name)
    if any(_mentions(line, bonds) for line in facts.firewall):
        return
    for link in facts.snapshot.links:
        upper = facts.snapshot.link(link.upper)
        others = link.upper is not None and (upper is None or not upper.ours)
        left = link.permanent_address in facts.snapshot.undone or _is_unwanted(facts, link)
        if link.driver != STANDBY_DRIVER or others or left:
            continue
        rules = [line.strip() for line in facts.firewall if _mentions(line, re.escape(link.name))]
        if rules:
            yield warning(
                link.name,
                f"the packet filter names it in {len(rules)} lines and names no bond, as in:"
                f" {rules[0]}",
                hint="have those rules name the bond as well (bond0, or what bond-name in"
                " guestagent.toml says): the NIC's traffic comes through it once a VF is there",
            )


def _mentions(line: str, name: str) -> bool:
    return re.search(rf"(?<![\w.:-])(?:{name})(?![\w.:-])", line) is not None


def _is_unwanted(facts: GuestFacts, link: Link) -> bool:
    only = facts.policy.only
    return link.is_among(facts.policy.excluded) or (only is not None and not link.is_among(only))


def ports(facts: GuestFacts) -> Iterator[Finding]:
    """Find ports with addresses or without a carrier, and a bond whose options were changed."""
    for pair in pair_up(facts.snapshot, facts.policy).pairs:
        bond, state = pair.bond, pair.state
        if bond is None or state is None:
            continue
        for port in _ports(facts, pair):
            nic = facts.nic(port.ifindex)
            own = [item for item in nic.addresses if item.scope == _SCOPE_GLOBAL] if nic else []
            if own:
                shown = ", ".join(f"{item.address}/{item.prefix_length}" for item in own)
                yield error(
                    port.name,
                    f"it is a port of {bond.name} and has addresses of its own: {shown}",
                    hint="find out which program configures it (`guestagent doctor` names those"
                    f" that it knows) and take them off: ip address flush dev {port.name}",
                )
        if state.mode != "active-backup" or state.miimon_ms == 0:
            yield error(
                bond.name,
                f"somebody has changed it: mode {state.mode}, miimon {state.miimon_ms} ms",
                hint="set it back (active-backup, miimon 100), or boot: it is made anew",
            )
        if pair.standby.is_port_of(bond) and pair.standby.up and not pair.standby.carrier:
            yield error(
                pair.standby.name,
                f"the standby of {bond.name} has no carrier: when the VF goes, the guest has"
                " no network",
                hint="bring the link of the virtio-net NIC up on the host (set_link, bridge)",
            )


def _vfs(facts: GuestFacts) -> Iterator[tuple[Pair, Link, NicFacts | None]]:
    for pair in pair_up(facts.snapshot, facts.policy).pairs:
        if pair.vf is not None:
            yield pair, pair.vf, facts.nic(pair.vf.ifindex)


def _ports(facts: GuestFacts, pair: Pair) -> tuple[Link, ...]:
    return facts.snapshot.ports(pair.bond) if pair.bond is not None else ()
