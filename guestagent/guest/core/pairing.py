"""Which NICs belong together: one virtio-net NIC and at most one other, by permanent MAC.

Pure. Refuses rather than guesses: a group that is not plainly a pair is left
alone and reported with the reason.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from guestagent.guest.core.model import STANDBY_DRIVER, Link, Pair, Policy, Refusal, Snapshot

_Why = tuple[str, str]
"""A reason to leave NICs alone, and what to do about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """The outcome: the pairs to keep bonded and the groups that are left alone."""

    pairs: tuple[Pair, ...] = ()
    refusals: tuple[Refusal, ...] = ()


def pair_up(snapshot: Snapshot, policy: Policy) -> Pairing:
    """Group the physical NICs by permanent MAC and judge each group.

    A virtio-net NIC without a VF is a pair only while it already is in a bond
    of ours or was in one before (``Snapshot.remembered``), or if the policy wants
    every such NIC bonded. A NIC that is excluded counts as absent.
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
    if all(link.driver != STANDBY_DRIVER for link in links):
        return None
    bond = bond_of(snapshot, mac)
    eligible = [link for link in links if not link.is_among(policy.excluded)]
    standbys = [link for link in eligible if link.driver == STANDBY_DRIVER]
    vfs = [link for link in eligible if link.driver != STANDBY_DRIVER]
    known = bond is not None or any(item.mac == mac for item in snapshot.remembered)
    listed = policy.only is None or any(link.is_among(policy.only) for link in standbys)
    bondable = bool(vfs) or known or (policy.unseen and bool(standbys) and listed)
    if len(links) == 1 and not (bondable or links[0].net_failover or mac in snapshot.released):
        return None
    unwanted = _unwanted(snapshot, policy, mac, links, bond)
    excluded = _excluded(standbys, bond, bondable=bondable)
    why = (
        _net_failover(links)
        or unwanted
        or excluded
        or _no_pair(eligible, standbys, vfs)
        or _in_use(snapshot, eligible, bond)
        or _name_taken(snapshot, policy, mac, bond)
    )
    if why is not None:
        reason, hint = why
        names = tuple(sorted(link.name for link in links))
        wanted = why in {unwanted, excluded}
        return Refusal(mac=mac, links=names, reason=reason, hint=hint, wanted=wanted)
    return Pair(mac=mac, standby=standbys[0], vf=vfs[0] if vfs else None, bond=bond)


def _net_failover(links: list[Link]) -> _Why | None:
    if any(link.net_failover for link in links):
        return (
            "the kernel's net_failover already pairs these NICs",
            "remove failover=on from the virtio-net device on the host to let the agent do it",
        )
    return None


def _unwanted(
    snapshot: Snapshot, policy: Policy, mac: str, links: list[Link], bond: Link | None
) -> _Why | None:
    """Return why somebody does not want the NICs bonded and what to do about it, or None."""
    if mac in snapshot.released:
        return (
            "taken apart by `guestagent undo`",
            "`guestagent adopt` bonds it again, and so does the next boot",
        )
    if policy.only is not None and not any(link.is_among(policy.only) for link in links):
        return (
            "not among the NICs that the configuration wants bonded",
            f"name it in `bond` of the configuration to bond it{_apart(bond)}",
        )
    return None


def _excluded(standbys: list[Link], bond: Link | None, *, bondable: bool) -> _Why | None:
    if standbys and bondable:
        return None
    return (
        "excluded by the configuration",
        f"take it off the exclude list to bond it{_apart(bond)}",
    )


def _apart(bond: Link | None) -> str:
    return f"; `guestagent undo --bond {bond.name}` takes the bond apart" if bond else ""


def _no_pair(eligible: list[Link], standbys: list[Link], vfs: list[Link]) -> _Why | None:
    if len(standbys) > 1 or len(vfs) > 1:
        return (
            f"{len(eligible)} NICs share this MAC and a pair has two",
            "give every pair of virtio-net NIC and VF a MAC of its own on the host",
        )
    return None


def _name_taken(snapshot: Snapshot, policy: Policy, mac: str, bond: Link | None) -> _Why | None:
    name = policy.of_pair(mac).bond_name
    if bond is not None or name is None or all(link.name != name for link in snapshot.links):
        return None
    return (
        f"its bond shall be called {name}, and another interface has that name",
        "give it another bond-name in the configuration, or rename the other interface",
    )


def _in_use(snapshot: Snapshot, links: list[Link], bond: Link | None) -> _Why | None:
    """Return what else the NICs are used for and what to do about it, or None."""
    for link in links:
        upper = snapshot.link(link.upper)
        if link.upper is not None and (bond is None or link.upper != bond.ifindex):
            what = f"{upper.kind or 'master'} {upper.name}" if upper else "another device"
            leave = f"put {link.permanent_address} on the exclude list of guestagent.toml"
            return (
                f"{link.name} is already a port of {what}, which the agent did not make",
                f"take {link.name} out of it; or {leave}: until then its VF is off limits to all",
            )
        above = snapshot.above(link) if link.upper is None else ()
        if above:
            names = ", ".join(item.name for item in above)
            return (
                f"{names} sits on {link.name} and cannot be moved without an outage",
                "reboot: the bond is then made before the network is configured",
            )
    return None
