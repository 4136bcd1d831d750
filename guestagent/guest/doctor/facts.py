"""Facts about a guest from one observation, and the findings that are made of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from guestagent.findings import Finding
from guestagent.guest.core.addressing import Address
from guestagent.guest.core.policy import Policy
from guestagent.guest.core.snapshot import Snapshot


class BondingModule(StrEnum):
    """Whether the kernel can load its bonding module when the agent makes a bond."""

    READY = "ready"
    BLOCKED = "blocked"
    """The configuration of modprobe prevents it."""
    MISSING = "missing"


class CloudInitState(StrEnum):
    """Progress of cloud-init on this instance."""

    ABSENT = "absent"
    """Not installed, disabled, or configured to leave the network alone."""
    PENDING = "pending"
    """Its first boot of this instance is not finished."""
    DONE = "done"
    DUPLICATE_MAC = "duplicate-mac"
    """It failed in this boot because two NICs had one MAC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitState:
    """A unit of the agent in systemd."""

    name: str
    installed: bool
    enabled: bool
    active: str
    """systemd's ActiveState: active, inactive, failed …"""
    result: str
    """success, or the kind of failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NicFacts:
    """Facts about a physical NIC that are not in the snapshot."""

    ifindex: int
    max_mtu: int | None
    made_up_mac: bool
    """Whether the driver made up the MAC because the host has set none."""
    addresses: tuple[Address, ...]
    received: int
    sent: int
    """Packets since the NIC appeared."""
    marked: bool
    """Whether udev marks it as a port of the agent."""
    known_to_udev: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CompetingStack:
    """A network stack whose files make it configure a NIC that is a port or a VF of a pair."""

    stack: str
    link: str
    source: str
    """The file, or the setting that is missing."""
    kept_off: bool
    """Whether a udev property keeps the stack off the NIC nevertheless."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFacts:
    """Everything that the checks need."""

    snapshot: Snapshot
    policy: Policy
    """The defaults if the configuration is wrong."""
    configuration: Finding | None = None
    """The error in the configuration."""
    module: BondingModule = BondingModule.READY
    units: tuple[UnitState, ...] = ()
    """Empty without systemd, as in a chroot."""
    nics: tuple[NicFacts, ...] = ()
    competing_stacks: tuple[CompetingStack, ...] = ()
    cloud_init: CloudInitState = CloudInitState.ABSENT
    all_are_filtered: bool = False
    """Whether a reverse path filter is set for all links at once."""
    firewall: tuple[str, ...] = ()
    """Lines of the kernel's packet filters as printed; empty without permission to read them."""
    host_channel: bool = True
    """Whether the guest has the agent's virtio-serial port."""
    guest_agent_channel: bool = False
    """Whether qemu-ga has its port."""
    journal_library: bool = True
    last_error: str | None = None
    """Last error of the running agent."""
    unseen: tuple[str, ...] = ()
    """Facts that could not be read, with the reason."""

    def nic(self, ifindex: int) -> NicFacts | None:
        """Return the facts about a NIC; None if it came or went meanwhile."""
        return next((nic for nic in self.nics if nic.ifindex == ifindex), None)
