"""What the driver asks of a hypervisor, whatever that is.

The only implementation speaks QMP (``qemu.py``). A libvirt-managed VM could
follow as one more file that satisfies the same protocol.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from guestagent.errors import PeerError, UnknownOutcomeError
from guestagent.host.model import (
    Device,
    GuestPair,
    MigrationFigures,
    MigrationSettings,
    Moment,
    Progress,
    QemuCapabilities,
    QemuState,
    Topology,
)


class RefusedError(PeerError):
    """The hypervisor or the guest said no: what was asked for did not happen."""


class ConnectionLostError(UnknownOutcomeError):
    """The connection ended before the answer came; a question may be asked on a new one."""


class GoneError(PeerError):
    """Nothing listens on the socket: the process behind it has ended or never ran."""


class Hypervisor(Protocol):
    """One side's QEMU. Every wait is bounded.

    All methods but ``look`` raise RefusedError when the request was turned
    down, UnknownOutcomeError when it was sent and the answer never came, and
    PeerError when the request could not be sent or the answer made no sense.
    """

    @property
    def moments(self) -> tuple[Moment, ...]:
        """What was seen to happen so far, in order, the newest 256."""
        ...

    async def look(self) -> QemuState:
        """Ask what state the guest is in; what cannot be asked is in the view, not raised."""
        ...

    async def unplug(self, device_id: str, timeout_s: float) -> None:
        """Ask the guest to release a device and wait until it has gone.

        Raises RefusedError when the guest refuses or says nothing in time. The
        device then was there when last looked at, but a request that reached
        the guest stays with it: it may still release the device later.
        """
        ...

    async def plug(self, device: Device, timeout_s: float) -> None:
        """Add a device to the running guest."""
        ...

    async def expect_migration(self, uri: str, settings: MigrationSettings) -> None:
        """Listen on ``uri`` for a guest that arrives."""
        ...

    async def start_migration(self, uri: str, settings: MigrationSettings) -> None:
        """Begin to send the guest to ``uri``; returns when it has begun."""
        ...

    def follow_migration(self, settings: MigrationSettings) -> AsyncIterator[Progress]:
        """Yield how far the outgoing migration is, until it has ended in whatever way.

        For how long the guest may be stopped is raised meanwhile, up to the limit in
        ``settings``: a migration that nobody follows may not come to an end.
        """
        ...

    async def cancel_migration(self) -> None:
        """Ask for the end of the outgoing migration; ``follow_migration`` shows the outcome.

        Raises RefusedError once post-copy has begun: the guest would be lost.
        """
        ...

    async def figures(self) -> MigrationFigures | None:
        """Return the figures of the outgoing migration, None if none has completed."""
        ...

    async def proceed(self) -> None:
        """Let the stopped guest run again."""
        ...

    async def wait_for_change(self, timeout_s: float) -> None:
        """Return when the guest stopped, resumed or a migration moved on, or after the time."""
        ...

    async def topology(self) -> Topology:
        """Read every PCI device and port that the guest sees."""
        ...

    async def means(self) -> QemuCapabilities:
        """Return what this QEMU can do in a migration, and what it may."""
        ...

    async def close(self) -> None:
        """Hang up; the guest goes on."""
        ...


class Guest(Protocol):
    """The agent in the guest of one side. What it says is claimed, not proved.

    All raise RefusedError when it said no, PeerError or UnknownOutcomeError
    when it said nothing that can be used; all may be repeated without harm.
    """

    async def to_standby(self, macs: Sequence[str], *, hold_s: float) -> None:
        """Have these pairs leave their VF for at most ``hold_s``; return when they have."""
        ...

    async def pairs(self) -> tuple[GuestPair, ...]:
        """Return the pairs that the agent sees, at most 64."""
        ...

    async def to_vf(self, macs: Sequence[str], *, timeout_s: float) -> None:
        """Have these pairs use their VF; return when they do."""
        ...
