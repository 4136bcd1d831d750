"""The operator's wishes, from the configuration. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from guestagent.json_fields import Range

FAIL_OVER_MAC_NONE, FAIL_OVER_MAC_ACTIVE = 0, 1  # include/uapi/linux/if_link.h


@dataclass(frozen=True, slots=True, kw_only=True)
class BondOptions:
    """Options of a new bond. Planned switches were measured with the defaults."""

    miimon_ms: Annotated[int, Range(10, 10_000)] = 100
    fail_over_mac: int = FAIL_OVER_MAC_NONE
    """With ``FAIL_OVER_MAC_ACTIVE`` the bond forgets all neighbours at each switch, and packets
    wait for them (K: drivers/net/bonding/bond_main.c, bond_do_fail_over_mac (6.12))."""
    announcements: Annotated[int, Range(0, 255)] = 3
    """Number of announcements of each address after a switch, by the kernel or by the agent."""
    announcement_spacing_ms: Annotated[int, Range(10, 10_000)] = 100
    """Time between two announcements of the agent; the kernel's are ``miimon_ms`` apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthOptions:
    """Options of path health."""

    gateway: bool = False
    """Whether the default gateways are probed through the active port."""
    interval_s: Annotated[int, Range(1, 3600)] = 5
    hold_down_s: Annotated[int, Range(1, 3600)] = 30
    """Time for which a VF without a path is avoided at first; it doubles up to an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairPolicy:
    """The operator's wishes for one pair."""

    mac: str
    bond_name: str | None = None
    options: BondOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The operator's wishes; every field has a default that works.

    NICs are named by permanent MAC, by PCI address or by driver.
    """

    bond_name: str = "bond%d"
    only: frozenset[str] | None = None
    """The NICs to bond; None for all."""
    unseen: bool = False
    """Whether to bond a virtio-net NIC although no VF with its MAC was ever seen."""
    excluded: frozenset[str] = frozenset()
    """NICs that are never bonded."""
    pairs: tuple[PairPolicy, ...] = ()
    control_group: str | None = None
    """Group that may use the control socket beside root."""
    options: BondOptions = BondOptions()
    health: HealthOptions = HealthOptions()

    def of_pair(self, mac: str) -> PairPolicy:
        """Return the wishes for one pair."""
        known = (item for item in self.pairs if item.mac == mac)
        return next(known, PairPolicy(mac=mac, options=self.options))
