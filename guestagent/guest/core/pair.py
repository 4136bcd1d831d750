"""A pair, and NICs that the agent leaves alone. Pure.

The key of a pair is the permanent MAC of its NICs, in lower case with colons.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from guestagent.guest.core.link import BondState, Link


class Role(StrEnum):
    """Place of a NIC in its pair."""

    VF = "vf"
    STANDBY = "standby"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A standby, its VF while it is there, and their bond once it exists."""

    mac: str
    standby: Link
    vf: Link | None
    bond: Link | None

    @property
    def nics(self) -> tuple[Link, ...]:
        """The NICs that are there, standby first."""
        return (self.standby,) if self.vf is None else (self.standby, self.vf)

    @property
    def label(self) -> str:
        """Name of the bond, or the MAC while there is none."""
        return self.bond.name if self.bond is not None else self.mac

    @property
    def state(self) -> BondState | None:
        """State of the bond; None without a bond."""
        return self.bond.bond if self.bond is not None else None

    @property
    def active_role(self) -> Role | None:
        """Role of the active port; None without a bond or an active port."""
        if self.state is None or self.state.active is None:
            return None
        return Role.STANDBY if self.state.active == self.standby.ifindex else Role.VF


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """NICs with one MAC that the agent leaves alone, with reason and hint."""

    mac: str
    links: tuple[str, ...]
    reason: str
    hint: str
    wanted: bool = False
    """Whether the operator has asked for it, so that it is no fault."""
