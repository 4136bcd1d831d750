"""Pairing of NICs by permanent MAC: one virtio-net NIC and at most one other. Pure.

Refuses rather than guesses: a group that is not clearly a pair is left alone, with the reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from guestagent.guest.core.link import STANDBY_DRIVER, Link
from guestagent.guest.core.pair import Pair, Refusal
from guestagent.guest.core.policy import Policy
from guestagent.guest.core.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """The pairs to keep bonded and the groups to leave alone."""

    pairs: tuple[Pair, ...] = ()
    refusals: tuple[Refusal, ...] = ()


def pair_up(snapshot: Snapshot, policy: Policy) -> Pairing:
    """Group the physical NICs by permanent MAC and check each group.

    A virtio-net NIC without a VF is a pair only while it already is in a bond
    of the agent or was in one before (``Snapshot.remembered``), or if the policy wants
    every such NIC bonded. A NIC that is excluded counts as absent.
    """
    groups: dict[str, list[Link]] = defaultdict(list)
    for link in snapshot.links:
        if link.physical and link.permanent_address is not None:
            groups[link.permanent_address].append(link)
    checked = [
        _Group.of(snapshot, policy, mac, tuple(links)).checked()
        for mac, links in sorted(groups.items())
    ]
    return Pairing(
        pairs=tuple(item for item in checked if isinstance(item, Pair)),
        refusals=tuple(item for item in checked if isinstance(item, Refusal)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """All physical NICs with one permanent MAC."""

    snapshot: Snapshot
    policy: Policy
    mac: str
    links: tuple[Link, ...]
    bond: Link | None
    standbys: tuple[Link, ...]
    """The virtio-net NICs that are not excluded."""
    vfs: tuple[Link, ...]
    """The other NICs that are not excluded."""

    @classmethod
    def of(cls, snapshot: Snapshot, policy: Policy, mac: str, links: tuple[Link, ...]) -> _Group:
        eligible = [link for link in links if not link.is_among(policy.excluded)]
        return cls(
            snapshot=snapshot,
            policy=policy,
            mac=mac,
            links=links,
            bond=snapshot.bond_of(mac),
            standbys=tuple(link for link in eligible if link.driver == STANDBY_DRIVER),
            vfs=tuple(link for link in eligible if link.driver != STANDBY_DRIVER),
        )

    def checked(self) -> Pair | Refusal | None:
        """Return the pair, the reason why it is none, or None for ordinary NICs."""
        if all(link.driver != STANDBY_DRIVER for link in self.links):
            return None
        concerned = self._bondable or self._undone or self.links[0].net_failover
        if len(self.links) == 1 and not concerned:
            return None
        vf = self.vfs[0] if self.vfs else None
        refusal = next(self._refusals(), None)
        return refusal or Pair(mac=self.mac, standby=self.standbys[0], vf=vf, bond=self.bond)

    @property
    def _undone(self) -> bool:
        return self.mac in self.snapshot.undone

    @property
    def _bondable(self) -> bool:
        """Whether there is a VF, was one before, or none is needed."""
        only = self.policy.only
        listed = only is None or any(link.is_among(only) for link in self.standbys)
        wanted_alone = self.policy.unseen and bool(self.standbys) and listed
        remembered = any(item.mac == self.mac for item in self.snapshot.remembered)
        return bool(self.vfs) or self.bond is not None or remembered or wanted_alone

    def _refusals(self) -> Iterator[Refusal]:
        """Yield every reason against a bond; the first one counts."""
        if any(link.net_failover for link in self.links):
            yield self._refusal(
                "the kernel's net_failover already pairs these NICs",
                "remove failover=on from the virtio-net device on the host to let the agent do it",
            )
        yield from self._unwanted()
        if len(self.standbys) > 1 or len(self.vfs) > 1:
            yield self._refusal(
                f"{len(self.standbys) + len(self.vfs)} NICs share this MAC and a pair has two",
                "give every pair of virtio-net NIC and VF a MAC of its own on the host",
            )
        for link in self.links:
            if not link.is_among(self.policy.excluded):
                yield from self._in_use(link)
        name = self.policy.of_pair(self.mac).bond_name
        names = {link.name for link in self.snapshot.links}
        if self.bond is None and name in names:
            yield self._refusal(
                f"another interface has the name {name}, which its bond is to get",
                "give it another bond-name in the configuration, or rename the other interface",
            )

    def _unwanted(self) -> Iterator[Refusal]:
        """Yield the operator's own reasons."""
        only, bond = self.policy.only, self.bond
        undo = f"; `guestagent undo --bond {bond.name}` takes the bond apart" if bond else ""
        if self._undone:
            yield self._refusal(
                "taken apart by `guestagent undo`",
                "`guestagent adopt` bonds it again, and so does the next boot",
                wanted=True,
            )
        if only is not None and not any(link.is_among(only) for link in self.links):
            yield self._refusal(
                "not among the NICs that the configuration wants bonded",
                f"name it in `bond` of the configuration to bond it{undo}",
                wanted=True,
            )
        if not (self.standbys and self._bondable):
            yield self._refusal(
                "excluded by the configuration",
                f"take it off the exclude list to bond it{undo}",
                wanted=True,
            )

    def _in_use(self, link: Link) -> Iterator[Refusal]:
        """Yield other uses of a NIC that prevent a bond."""
        upper = self.snapshot.link(link.upper)
        if link.upper is not None and not link.is_port_of(self.bond):
            master = f"{upper.kind or 'master'} {upper.name}" if upper else "another device"
            exclude = f"put {link.permanent_address} on the exclude list of guestagent.toml"
            yield self._refusal(
                f"{link.name} is already a port of {master}, which the agent did not make",
                f"take {link.name} out of it; or {exclude}: until then no network"
                " manager uses its VF",
            )
        above = self.snapshot.above(link) if link.upper is None else ()
        if above:
            names = ", ".join(item.name for item in above)
            yield self._refusal(
                f"{names} sits on {link.name} and cannot be moved without an outage",
                "reboot: the bond is then made before the network is configured",
            )

    def _refusal(self, reason: str, hint: str, *, wanted: bool = False) -> Refusal:
        names = tuple(sorted(link.name for link in self.links))
        return Refusal(mac=self.mac, links=names, reason=reason, hint=hint, wanted=wanted)
