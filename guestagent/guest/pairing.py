"""Which NICs belong together: one virtio-net NIC and at most one other, by permanent MAC.

Pure. Refuses rather than guesses: a group that is not plainly a pair is left
alone and reported with the reason.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from guestagent.guest.model import STANDBY_DRIVER, Link, Pair, Policy, Refusal, Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """The outcome: the pairs to keep bonded and the groups that are left alone."""

    pairs: tuple[Pair, ...] = ()
    refusals: tuple[Refusal, ...] = ()


def pair_up(snapshot: Snapshot, policy: Policy) -> Pairing:
    """Group the physical NICs by permanent MAC and judge each group.

    A virtio-net NIC without a VF is a pair only while it already is in a bond
    of ours or was in one before (``Snapshot.remembered``).
    """
    groups: dict[str, list[Link]] = defaultdict(list)
    for link in snapshot.links:
        if link.physical and link.permanent_address is not None:
            groups[link.permanent_address].append(link)
    pairs: list[Pair] = []
    refusals: list[Refusal] = []
    for mac, links in sorted(groups.items()):
        verdict = _judge(snapshot, policy, mac, links)
        if isinstance(verdict, Pair):
            pairs.append(verdict)
        elif isinstance(verdict, Refusal):
            refusals.append(verdict)
    return Pairing(pairs=tuple(pairs), refusals=tuple(refusals))


def bond_of(snapshot: Snapshot, mac: str) -> Link | None:
    """Return the bond of ours that serves a MAC, or None."""
    return next((link for link in snapshot.links if link.serves(mac)), None)


def _judge(
    snapshot: Snapshot, policy: Policy, mac: str, links: list[Link]
) -> Pair | Refusal | None:
    standbys = [link for link in links if link.driver == STANDBY_DRIVER]
    vfs = [link for link in links if link.driver != STANDBY_DRIVER]
    if not standbys:
        return None

    def refuse(reason: str, hint: str) -> Refusal:
        names = tuple(sorted(link.name for link in links))
        return Refusal(mac=mac, links=names, reason=reason, hint=hint)

    bond = bond_of(snapshot, mac)
    known = bond is not None or any(item.mac == mac for item in snapshot.remembered)
    if mac in snapshot.released:
        return refuse(
            "taken apart by `guestagent undo`",
            "`guestagent adopt` bonds it again, and so does the next boot",
        )
    if len(links) == 1 and not known and not links[0].net_failover:
        return None
    if any(link.net_failover for link in links):
        return refuse(
            "the kernel's net_failover already pairs these NICs",
            "remove failover=on from the virtio-net device on the host to let the agent do it",
        )
    if mac in policy.excluded:
        return refuse("excluded by the configuration", "take it off the exclude list to bond it")
    if len(standbys) > 1 or len(vfs) > 1:
        return refuse(
            f"{len(links)} NICs share this MAC and a pair has two",
            "give every pair of virtio-net NIC and VF a MAC of its own on the host",
        )
    used = _in_use(snapshot, links, bond)
    if used is not None:
        return refuse(*used)
    return Pair(mac=mac, standby=standbys[0], vf=vfs[0] if vfs else None, bond=bond)


def _in_use(snapshot: Snapshot, links: list[Link], bond: Link | None) -> tuple[str, str] | None:
    """Return what else the NICs are used for and what to do about it, or None."""
    for link in links:
        upper = snapshot.link(link.upper)
        if link.upper is not None and (bond is None or link.upper != bond.ifindex):
            what = f"{upper.kind or 'master'} {upper.name}" if upper else "another device"
            return (
                f"{link.name} is already a port of {what}, which the agent did not make",
                f"take {link.name} out of it, or leave the pair to whoever made it",
            )
        above = snapshot.above(link)
        if above:
            names = ", ".join(item.name for item in above)
            return (
                f"{names} sits on {link.name} and cannot be moved without an outage",
                "reboot: the bond is then made before the network is configured",
            )
    return None
