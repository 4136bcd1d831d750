"""Data types of the host program: the description of a VM, and the answers of a hypervisor.

Pure. ``source`` is where the guest runs when a command begins,
``destination`` where a migration takes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar

from guestagent.codec import wire
from guestagent.host.sriov.core.model import Provision
from guestagent.json_fields import Range

PropertyValue = str | int | bool
Seconds = Annotated[float, Range(0.001)]

# The most that QEMU takes (Q: migration/options.c, migrate_params_check); it would refuse more
# only once the guest has lost its VF.
MOST_DOWNTIME_MS = 2_000_000
MOST_CHANNELS = 255
MOST_BANDWIDTH_MIB_PER_S = 2**43 - 1


class End(StrEnum):
    """One of the two QEMUs of a migration."""

    SOURCE = "source"
    DESTINATION = "destination"


# --- the description file --------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device as ``device_add`` takes it; ``properties`` are all but driver, id and bus."""

    driver: str
    id: str
    bus: str
    properties: tuple[tuple[str, PropertyValue], ...] = ()

    def on_vf(self, address: str) -> Device:
        """Return this device, backed by the VF at a PCI address."""
        others = tuple(item for item in self.properties if item[0] != "host")
        return replace(self, properties=(*others, ("host", address)))


@dataclass(frozen=True, slots=True, kw_only=True)
class PairConfig:
    """A standby NIC and the VF that shares its MAC; ``destination_vf`` may be None.

    ``sriov`` and ``destination_sriov`` are None for a VF that this program neither claims nor
    programs. If they choose among the VFs of a PF, the device has no ``host`` before a VF is
    claimed: see ``Device.on_vf``.
    """

    mac: str
    standby: str
    vf: Device
    destination_vf: Device | None
    sriov: Provision | None = None
    destination_sriov: Provision | None = None

    def sriov_on(self, end: End) -> Provision | None:
        """Return the provision of this pair's VF at ``end``."""
        return self.sriov if end is End.SOURCE else self.destination_sriov

    def vf_on(self, end: End) -> Device | None:
        """Return this pair's VF at ``end``."""
        return self.vf if end is End.SOURCE else self.destination_vf


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The sockets of one QEMU; ``qga`` and ``agent`` are None where the guest has none."""

    qmp: Path
    qga: Path | None = None
    agent: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """The target of a migration: the source connects to ``uri``, the destination opens ``listen``.

    ``host`` is the URL of its host (``ssh://host2``), None for this one.
    """

    endpoint: Endpoint
    uri: str
    listen: str
    host: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationSettings:
    """QEMU's settings for a migration.

    The guest is stopped for about ``downtime_limit_ms`` at most, as QEMU estimates it;
    a bandwidth of None keeps QEMU's own setting. With ``postcopy`` the guest runs at the
    destination after one pass, and its memory follows; ``auto_converge`` slows down a guest
    that writes faster than its memory is sent; ``multifd_channels`` of None is one connection.
    """

    downtime_limit_ms: Annotated[int, Range(1, MOST_DOWNTIME_MS)] = 300
    bandwidth_limit_mib_per_s: Annotated[int, Range(1, MOST_BANDWIDTH_MIB_PER_S)] | None = None
    postcopy: bool = False
    auto_converge: bool = False
    multifd_channels: Annotated[int, Range(1, MOST_CHANNELS)] | None = None
    timeout_s: Seconds = 1800.0

    @property
    def capabilities(self) -> Mapping[str, bool]:
        """Whether a capability is needed at both ends, by QEMU's name; any other is disabled.

        "events" reports every step; with "return-path" the destination confirms that it has
        loaded everything, before the source gives up the guest (Q:
        qapi/migration.json, MigrationCapability).
        """
        return {
            "events": True,
            "return-path": True,
            "postcopy-ram": self.postcopy,
            "auto-converge": self.auto_converge,
            "multifd": self.multifd_channels is not None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Limits of the time for each answer, and of the number of attempts."""

    command_s: Seconds = 10.0
    unplug_s: Annotated[float, Range(5.0)] = 10.0
    """At least 5: a second request within the 5 s of pciehp may cancel the first."""
    unplug_requests: Annotated[int, Range(1)] = 3
    attach_s: Seconds = 120.0
    attach_tries: Annotated[int, Range(1)] = 3
    guest_s: Seconds = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Vm:
    """One VM as in its description file; ``destination`` is None if the file has none."""

    name: str
    source: Endpoint
    destination: Destination | None
    pairs: tuple[PairConfig, ...]
    migration: MigrationSettings
    timeouts: Timeouts
    guest_must_agree: bool = False
    """Whether a refusal of the guest to leave its VF ends the operation."""

    def with_destination_host(self, host: str | None) -> Vm:
        """Return this VM with its destination on ``host``; the same where it has none."""
        if self.destination is None:
            return self
        return replace(self, destination=replace(self.destination, host=host))

    def vfs_on(self, end: End) -> tuple[Device, ...]:
        """Return the VFs described for ``end``, in the order of the pairs."""
        return tuple(vf for pair in self.pairs if (vf := pair.vf_on(end)) is not None)

    def managed_on(self, end: End) -> tuple[str, ...]:
        """Return the ids of the VFs at ``end`` that this program claims and programs."""
        return tuple(
            vf.id
            for pair in self.pairs
            if (vf := pair.vf_on(end)) is not None and pair.sriov_on(end) is not None
        )


# --- the answers of a hypervisor ------------------------------------------------------------

MIGRATION_ENDED = frozenset({None, "none", "completed", "failed", "cancelled"})
"""The states of a migration in which nothing moves (Q: qapi/migration.json, MigrationStatus).

The states of a moving one are not listed: QEMU gets new ones, and an unknown state must not
count as an end (``postcopy-device`` since 10.2).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuState:
    """The answers of one QEMU, in QEMU's names.

    ``unreachable`` is the reason if there was no answer; all other members are empty then.
    ``gone`` is stronger: nothing listens on the socket, so the process has ended.
    ``migration`` is the state of the last migration, None before the first.
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
        """Whether the guest runs here."""
        return self.run_state == "running"

    @property
    def moving(self) -> bool:
        """Whether a migration, in or out, has begun and not ended."""
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
    """The progress of a migration; ``time_left_s`` is None while it cannot be estimated."""

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
    """An event of QEMU, in seconds of this host's CLOCK_MONOTONIC.

    ``at_s`` is QEMU's time stamp, ``received_s`` the time of arrival.
    """

    name: str
    end: End = field(metadata=wire("side"))
    vf: str | None
    at_s: float
    received_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PciDevice:
    """A PCI device of the guest; ``address`` is None until the firmware has assigned one."""

    id: str | None
    driver: str | None
    mac: str | None
    address: str | None
    port: str | None
    description: str
    is_nic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PciPort:
    """A port for one device; ``slot_address`` is its address in the guest, if assigned yet."""

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
    """An interface that the guest lists: claims of the guest, not facts."""

    name: str
    mac: str | None
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestPair:
    """A pair that the agent in the guest reports: a claim of the guest, not a fact."""

    mac: str
    bonded: bool
    uses_vf: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuCapabilities:
    """The migration capabilities of a QEMU, and the limits of its process.

    ``lockable_bytes`` is the limit of locked memory, None if it is unknown or there is none;
    ``process`` names the process, or the reason why it is unknown.
    """

    WIRE_NAME: ClassVar[str] = "Means"

    version: tuple[int, ...]
    capabilities: frozenset[str]
    memory_bytes: int
    lockable_bytes: int | None
    process: str
