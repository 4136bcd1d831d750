"""The words of the host side: what a VM description says and what a hypervisor shows.

Pure data. ``source`` is where the guest runs when a command begins,
``destination`` where a migration takes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from guestagent.codec import wire
from guestagent.host.sriov.core.model import Provision

PropertyValue = str | int | bool


class End(StrEnum):
    """One of the two QEMUs of a migration."""

    SOURCE = "source"
    DESTINATION = "destination"


# --- what the description file says ---------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device as ``device_add`` takes it; ``properties`` are all but driver, id and bus."""

    driver: str
    id: str
    bus: str
    properties: tuple[tuple[str, PropertyValue], ...] = ()

    def on_vf(self, address: str) -> Device:
        """Return this device with the VF at a PCI address behind it."""
        others = tuple(item for item in self.properties if item[0] != "host")
        return replace(self, properties=(*others, ("host", address)))


@dataclass(frozen=True, slots=True, kw_only=True)
class PairConfig:
    """A standby NIC and the VF that shares its MAC; ``destination_vf`` may be None.

    ``sriov`` and ``destination_sriov`` are None where the VF is taken as it is,
    with nothing claimed or programmed. Where they choose among the VFs of a PF, the
    device has no ``host`` before one is claimed: see ``Device.on_vf``.
    """

    mac: str
    standby: str
    vf: Device
    destination_vf: Device | None
    sriov: Provision | None = None
    destination_sriov: Provision | None = None

    def sriov_on(self, end: End) -> Provision | None:
        """Return what this pair's VF has to be on ``end``."""
        return self.sriov if end is End.SOURCE else self.destination_sriov

    def vf_on(self, end: End) -> Device | None:
        """Return the VF that this pair has on ``end``."""
        return self.vf if end is End.SOURCE else self.destination_vf


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The sockets of one QEMU; ``qga`` and ``agent`` are None where the guest has none."""

    qmp: Path
    qga: Path | None = None
    agent: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where a migration goes: the source connects to ``uri``, the destination opens ``listen``.

    ``host`` is how its host is reached (``ssh://host2``), None where it is this one.
    """

    endpoint: Endpoint
    uri: str
    listen: str
    host: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationSettings:
    """How memory is moved.

    The guest is stopped for at most about ``downtime_limit_ms``, as QEMU estimates it;
    a bandwidth of None leaves QEMU's own setting alone. ``postcopy`` lets the guest run
    at the destination after one pass, its memory following; ``auto_converge`` slows it
    down while it writes faster than can be sent; ``multifd_channels`` of None is one
    connection, as ever.
    """

    downtime_limit_ms: int = 300
    bandwidth_limit_mib_per_s: int | None = None
    postcopy: bool = False
    auto_converge: bool = False
    multifd_channels: int | None = None
    timeout_s: float = 1800.0

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Return what both QEMUs must be capable of, in QEMU's words.

        "events" tells every step; with "return-path" the source is told that the
        destination took everything, before it lets go of the guest (Q:
        qapi/migration.json, MigrationCapability).
        """
        return tuple(name for name, is_wanted in self._capabilities if is_wanted)

    @property
    def unwanted_capabilities(self) -> tuple[str, ...]:
        """Return what an earlier migration of ours may have switched on, and this one is not."""
        return tuple(name for name, is_wanted in self._capabilities if not is_wanted)

    @property
    def _capabilities(self) -> tuple[tuple[str, bool], ...]:
        return (
            ("events", True),
            ("return-path", True),
            ("postcopy-ram", self.postcopy),
            ("auto-converge", self.auto_converge),
            ("multifd", self.multifd_channels is not None),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long each answer may take, and how often a request is made."""

    command_s: float = 10.0
    unplug_s: float = 10.0
    unplug_requests: int = 3
    attach_s: float = 120.0
    attach_tries: int = 3
    guest_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Vm:
    """One VM as its description file has it; ``destination`` is None where none is described."""

    name: str
    source: Endpoint
    destination: Destination | None
    pairs: tuple[PairConfig, ...]
    migration: MigrationSettings
    timeouts: Timeouts
    guest_must_agree: bool = False
    """Whether a guest that refuses to leave its VF keeps it."""

    def vfs_on(self, end: End) -> tuple[Device, ...]:
        """Return the VFs described for ``end``, in the order of the pairs."""
        return tuple(vf for pair in self.pairs if (vf := pair.vf_on(end)) is not None)

    def managed_on(self, end: End) -> tuple[str, ...]:
        """Return the ids of the VFs on ``end`` that are claimed and programmed here."""
        return tuple(
            vf.id
            for pair in self.pairs
            if (vf := pair.vf_on(end)) is not None and pair.sriov_on(end) is not None
        )


# --- what a hypervisor shows ----------------------------------------------------------------

MIGRATION_ENDED = frozenset({None, "none", "completed", "failed", "cancelled"})
"""The states of a migration in which nothing moves (Q: qapi/migration.json, MigrationStatus).

Not those in which something does: QEMU gets new ones, and one that is not known here must not
count as an end (``postcopy-device`` since 10.2).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuState:
    """What one side said when it was asked, in QEMU's words; nothing in it is guessed.

    ``unreachable`` says why there was no answer; then all the rest is empty.
    ``gone`` is stronger: nothing listens on its socket, so the process has ended.
    ``migration`` is None before any migration; of the last one otherwise.
    """

    WIRE_NAME: ClassVar[str] = "View"

    end: End = field(metadata=wire("side"))
    run_state: str | None = None
    migration: str | None = None
    migration_error: str | None = None
    devices: frozenset[str] = frozenset()
    unreachable: str | None = None
    gone: bool = False

    @property
    def running(self) -> bool:
        """Whether this side said that the guest runs here."""
        return self.run_state == "running"

    @property
    def moving(self) -> bool:
        """Whether a migration of this side, in or out, has begun and not ended."""
        return self.migration not in MIGRATION_ENDED

    def __str__(self) -> str:
        if self.gone:
            return f"{self.end}: QEMU has ended ({self.unreachable})"
        if self.unreachable is not None:
            return f"{self.end}: no answer ({self.unreachable})"
        text = f"{self.end}: guest {self.run_state}, migration {self.migration or 'none'}"
        return text if self.migration_error is None else f"{text} ({self.migration_error})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a running migration is; ``time_left_s`` is None while it cannot be told."""

    transferred_bytes: int
    remaining_bytes: int
    total_bytes: int
    rate_bytes_per_s: float
    time_left_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationFigures:
    """QEMU's own figures of a migration that has ended."""

    total_ms: int
    downtime_ms: int | None
    setup_ms: int | None
    transferred_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Something that QEMU said happened, in seconds of this host's CLOCK_MONOTONIC.

    ``at_s`` comes from QEMU's own time stamp, ``received_s`` is when it arrived here.
    """

    name: str
    end: End = field(metadata=wire("side"))
    vf: str | None
    at_s: float
    received_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PciDevice:
    """A device of the guest; what it has not is None, an address until its firmware gave one."""

    id: str | None
    driver: str | None
    mac: str | None
    address: str | None
    port: str | None
    description: str
    is_nic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PciPort:
    """A port that takes one device; the guest sees that at ``slot_address``, if it knows yet."""

    id: str
    address: str
    slot_address: str | None
    device: str | None
    hotplug: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """All PCI devices and ports of a guest, in the order of their addresses."""

    devices: tuple[PciDevice, ...]
    ports: tuple[PciPort, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestInterface:
    """An interface as the guest names it: claims of the guest, not facts."""

    name: str
    mac: str | None
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestPair:
    """A pair as the agent in the guest tells of it: a claim of the guest, not a fact."""

    mac: str
    bonded: bool
    uses_vf: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuCapabilities:
    """What a QEMU can do and may do, beyond the state of its guest.

    ``lockable_bytes`` is how much memory the process may lock, None where that is not
    known or where nothing limits it; ``process`` says which, or why it is not known.
    """

    WIRE_NAME: ClassVar[str] = "Means"

    version: tuple[int, ...]
    capabilities: frozenset[str]
    memory_bytes: int
    lockable_bytes: int | None
    process: str
