"""What the doctor judges: one look at the guest, as values. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from guestagent.guest.core.addressing import Address
from guestagent.guest.core.policy import Policy
from guestagent.guest.core.snapshot import Snapshot


class Severity(StrEnum):
    """What a finding means for the guest's network."""

    ERROR = "error"
    """Something does not work, or will not when the VF comes or goes."""
    WARNING = "warning"
    """It works, with less than there could be."""
    NOTE = "note"
    """Nothing is wrong; good to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was found: on which object, what was seen, what to do."""

    severity: Severity
    about: str
    seen: str
    advice: str


class BondingModule(StrEnum):
    """Whether the kernel gets its bonding module when a bond is asked for."""

    READY = "ready"
    BLOCKED = "blocked"
    """modprobe's configuration keeps it from being loaded."""
    MISSING = "missing"


class CloudInit(StrEnum):
    """How far cloud-init is with this instance."""

    ABSENT = "absent"
    """Not installed, disabled, or told to leave the network to the image."""
    PENDING = "pending"
    """Its first boot of this instance is not finished."""
    DONE = "done"
    DUPLICATE_MAC = "duplicate-mac"
    """It failed in this boot because two NICs had one MAC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitState:
    """A unit of the agent, as systemd tells it."""

    name: str
    installed: bool
    enabled: bool
    active: str
    """systemd's ActiveState: active, inactive, failed …"""
    result: str
    """success, or how it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NicFacts:
    """What the snapshot does not tell of a physical NIC."""

    ifindex: int
    max_mtu: int | None
    made_up_mac: bool
    """Whether the driver made its MAC up, because the host has set none."""
    addresses: tuple[Address, ...]
    received: int
    sent: int
    """Packets since the NIC came."""
    marked: bool
    """Whether udev marks it as a port of the agent's."""
    known_to_udev: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A network stack whose files make it configure a NIC that is a port or a VF of a pair."""

    stack: str
    link: str
    source: str
    """The file, or what is missing."""
    kept_off: bool
    """Whether a property of udev's keeps the stack off the NIC all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """An error that somebody else has met, in its own words."""

    message: str
    hint: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that was read."""

    snapshot: Snapshot
    policy: Policy
    """The defaults, where the configuration is wrong."""
    configuration: Complaint | None = None
    """What is wrong with the configuration."""
    module: BondingModule = BondingModule.READY
    units: tuple[UnitState, ...] = ()
    """Empty where no systemd runs, as in a chroot."""
    nics: tuple[NicFacts, ...] = ()
    claims: tuple[Claim, ...] = ()
    cloud_init: CloudInit = CloudInit.ABSENT
    all_are_filtered: bool = False
    """Whether a reverse path filter is set for all links."""
    firewall: tuple[str, ...] = ()
    """The lines in which the kernel's packet filters are printed; empty where none may be read."""
    host_channel: bool = True
    """Whether the host gives the guest the agent's own virtio-serial port."""
    guest_agent_channel: bool = False
    """Whether qemu-ga has its port."""
    journal_library: bool = True
    last_error: str | None = None
    """The running agent's."""
    unseen: tuple[str, ...] = ()
    """What could not be looked at, with the reason."""

    def nic(self, ifindex: int) -> NicFacts | None:
        """Return what was read of a NIC, None for one that came or went meanwhile."""
        return next((nic for nic in self.nics if nic.ifindex == ifindex), None)
