"""Findings on the NICs, pairs and bonds. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from guestagent.guest.core.link import STANDBY_DRIVER, Link
from guestagent.guest.core.pair import Pair
from guestagent.guest.core.pairing import pair_up
from guestagent.guest.core.planner import plan
from guestagent.guest.core.policy import FAIL_OVER_MAC_ACTIVE, FAIL_OVER_MAC_NONE
from guestagent.guest.doctor.facts import Facts, Finding, NicFacts, Severity

SENT_WITHOUT_ANSWER = 20
"""Packets after which a NIC that has received none is suspicious."""
_SCOPE_GLOBAL = 0


def left_alone(facts: Facts) -> Iterator[Finding]:
    """Report the NICs that share a MAC and are no pair, and what is put off until the boot."""
    decided = plan(facts.snapshot, facts.policy)
    for item in decided.refusals:
        yield Finding(
            severity=Severity.NOTE if item.wanted else Severity.ERROR,
            about=f"{item.mac} ({', '.join(item.links)})",
            seen=f"left alone: {item.reason}",
            advice=item.hint,
        )
    for text in decided.waiting:
        yield Finding(
            severity=Severity.NOTE,
            about="pair",
            seen=text,
            advice="nothing: it is done when the state is there",
        )


def made_up_mac(facts: Facts) -> Iterator[Finding]:
    """Find a VF that can have no partner, because its driver has invented its MAC."""
    for link in facts.snapshot.links:
        nic = facts.nic(link.ifindex)
        if nic is not None and nic.made_up_mac and link.driver != STANDBY_DRIVER:
            yield Finding(
                severity=Severity.ERROR,
                about=link.name,
                seen=f"its driver has made up its MAC {link.permanent_address or link.address}:"
                " the host has set none, so it pairs with no virtio-net NIC",
                advice="set the MAC of the pair on the host before the VF is attached:"
                " ip link set PF vf NUMBER mac ADDRESS",
            )


def changed_mac(facts: Facts) -> Iterator[Finding]:
    """Find a VF whose MAC is not its own, and a bond that takes the MAC of its active port."""
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
                about=vf.name,
                seen=f"its MAC was changed to {vf.address} and its own is {pair.mac}:"
                f" the bond {then}",
                advice=f"ip link set {vf.name} down && ip link set {vf.name} address {pair.mac};"
                " find out which program changed it",
            )
        if mode == FAIL_OVER_MAC_ACTIVE:
            yield Finding(
                severity=Severity.NOTE,
                about=pair.label,
                seen="fail-over-mac is active: at each switch the kernel forgets all neighbours,"
                " and what is sent waits until they are found again",
                advice="nothing if the VF's driver lets nobody write its MAC; otherwise take"
                ' fail-over-mac = "active" out of guestagent.toml (a bond that exists keeps it'
                " until the next boot)",
            )


def mtu(facts: Facts) -> Iterator[Finding]:
    """Find a VF whose MTU does not reach the bond's, or ports that differ from it."""
    for pair, vf, nic in _vfs(facts):
        wanted = pair.bond.mtu if pair.bond is not None else pair.standby.mtu
        if nic is not None and nic.max_mtu is not None and nic.max_mtu < wanted:
            yield Finding(
                severity=Severity.ERROR,
                about=vf.name,
                seen=f"it takes an MTU of at most {nic.max_mtu} and the pair has {wanted}: it"
                " cannot join the bond",
                advice="raise the MTU of the PF on the host, or lower that of the guest's"
                " configuration",
            )
    for pair in pair_up(facts.snapshot, facts.policy).pairs:
        for port in _ports(facts, pair):
            if pair.bond is not None and port.mtu != pair.bond.mtu:
                yield Finding(
                    severity=Severity.ERROR,
                    about=port.name,
                    seen=f"its MTU is {port.mtu} and that of {pair.bond.name} is {pair.bond.mtu}:"
                    " longer packets are lost on it",
                    advice=f"ip link set {pair.bond.name} mtu {pair.bond.mtu} sets all ports",
                )


def silent_vf(facts: Facts) -> Iterator[Finding]:
    """Find a VF that carries the traffic and hears nothing: another VLAN or MAC filter."""
    for pair, vf, nic in _vfs(facts):
        state = pair.state
        active = state is not None and state.active == vf.ifindex
        if active and nic is not None and nic.received == 0 and nic.sent >= SENT_WITHOUT_ANSWER:
            yield Finding(
                severity=Severity.ERROR,
                about=vf.name,
                seen=f"it carries the traffic of {pair.label}, has"
                f" sent {nic.sent} packets and received none",
                advice="compare VLAN and MAC of the VF with those of the virtio-net NIC's port on"
                " the host (ip link show PF); `guestagent switch standby` helps for now",
            )


def rp_filter(facts: Facts) -> Iterator[Finding]:
    """Find a reverse path filter that drops what arrives during an adoption.

    While addresses move to the bond, frames still arrive on the NIC, whose own filter is taken
    off so long; one for all links stays (K: net/ipv4/fib_frontend.c,
    __fib_validate_source (6.12)).
    """
    for link in facts.snapshot.links:
        nic = facts.nic(link.ifindex)
        if nic is None or link.driver != STANDBY_DRIVER or link.upper is not None:
            continue
        if facts.all_are_filtered and nic.addresses:
            yield Finding(
                severity=Severity.WARNING,
                about=link.name,
                seen="a reverse path filter is set for all links: what is on its way to this NIC"
                " when its addresses move to a bond is lost",
                advice="set it for each link in place of net.ipv4.conf.all.rp_filter, which is 0"
                " then, before a VF is plugged for the first time",
            )


def firewall(facts: Facts) -> Iterator[Finding]:
    """Find rules of a packet filter that speak of a NIC and of none of its bond's names.

    What was the NIC's traffic comes through the bond once there is one.
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
            yield Finding(
                severity=Severity.WARNING,
                about=link.name,
                seen=f"the packet filter names it in {len(rules)} lines and names no bond, as in:"
                f" {rules[0]}",
                advice="have those rules name the bond as well (bond0, or what bond-name in"
                " guestagent.toml says): the NIC's traffic comes through it once a VF is there",
            )


def _mentions(line: str, name: str) -> bool:
    return re.search(rf"(?<![\w.:-])(?:{name})(?![\w.:-])", line) is not None


def _is_unwanted(facts: Facts, link: Link) -> bool:
    only = facts.policy.only
    return link.is_among(facts.policy.excluded) or (only is not None and not link.is_among(only))


def ports(facts: Facts) -> Iterator[Finding]:
    """Find ports that are not what a port must be, and a bond that is not as it was made."""
    for pair in pair_up(facts.snapshot, facts.policy).pairs:
        bond, state = pair.bond, pair.state
        if bond is None or state is None:
            continue
        for port in _ports(facts, pair):
            nic = facts.nic(port.ifindex)
            own = [item for item in nic.addresses if item.scope == _SCOPE_GLOBAL] if nic else []
            if own:
                shown = ", ".join(f"{item.address}/{item.prefix_length}" for item in own)
                yield Finding(
                    severity=Severity.ERROR,
                    about=port.name,
                    seen=f"it is a port of {bond.name} and has addresses of its own: {shown}",
                    advice="find out which program configures it (`guestagent doctor` names those"
                    f" that it knows) and take them off: ip address flush dev {port.name}",
                )
        if state.mode != "active-backup" or state.miimon_ms == 0:
            yield Finding(
                severity=Severity.ERROR,
                about=bond.name,
                seen=f"somebody has changed it: mode {state.mode}, miimon {state.miimon_ms} ms",
                advice="set it back (active-backup, miimon 100), or boot: it is made anew",
            )
        if pair.standby.is_port_of(bond) and pair.standby.up and not pair.standby.carrier:
            yield Finding(
                severity=Severity.ERROR,
                about=pair.standby.name,
                seen=f"the standby of {bond.name} has no carrier: when the VF goes, the guest has"
                " no network",
                advice="bring the link of the virtio-net NIC up on the host (set_link, bridge)",
            )


def _vfs(facts: Facts) -> Iterator[tuple[Pair, Link, NicFacts | None]]:
    for pair in pair_up(facts.snapshot, facts.policy).pairs:
        if pair.vf is not None:
            yield pair, pair.vf, facts.nic(pair.vf.ifindex)


def _ports(facts: Facts, pair: Pair) -> tuple[Link, ...]:
    return facts.snapshot.ports(pair.bond) if pair.bond is not None else ()
