"""Everything that a plan is made from, at one moment. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from guestagent.guest.core.link import Link


@dataclass(frozen=True, slots=True, kw_only=True)
class StackFile:
    """A file that makes a network stack configure the bond as it did the NIC."""

    path: str
    content: str
    in_place: bool
    pre_takeover_content: str | None = None
    """Content that keeps the stack off the bond until the takeover; None if none is needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberedPair:
    """A pair that was seen before; its bond is made without the VF too."""

    mac: str
    bond: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Links, requests and stack files at one moment. Pairs are named by permanent MAC."""

    links: tuple[Link, ...]
    remembered: tuple[RememberedPair, ...] = ()
    held: frozenset[str] = frozenset()
    """Pairs with a hold on the standby."""
    avoided: frozenset[str] = frozenset()
    """Pairs whose VF has a carrier and no path."""
    undone: frozenset[str] = frozenset()
    """Pairs that `guestagent undo` takes apart and that are left alone."""
    stack_files: dict[str, tuple[StackFile, ...]] = field(default_factory=dict)
    """Files that the network stacks need, by the name of the bond."""

    def link(self, ifindex: int | None) -> Link | None:
        """Return the link with that ifindex, or None."""
        return next((link for link in self.links if link.ifindex == ifindex), None)

    def bond_of(self, mac: str) -> Link | None:
        """Return the agent's bond for a pair, or None."""
        return next((link for link in self.links if link.serves(mac)), None)

    def nics_of(self, mac: str) -> tuple[Link, ...]:
        """Return the physical NICs with this permanent MAC."""
        return tuple(
            link for link in self.links if link.physical and link.permanent_address == mac
        )

    def ports(self, bond: Link) -> tuple[Link, ...]:
        """Return the ports of a bond."""
        return tuple(link for link in self.links if link.is_port_of(bond))

    def above(self, lower: Link) -> tuple[Link, ...]:
        """Return the VLANs, macvlans and the like above a link."""
        return tuple(link for link in self.links if link.lower == lower.ifindex)
