"""The interface to a hypervisor and to the agent in its guest, whatever implements it.

``qmp/`` implements both roles over QMP, ``remote/`` the destination alone. Another hypervisor is
one more folder that implements both roles.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from guestagent.errors import InternalError, PeerError, UnknownOutcomeError
from guestagent.forwarding import wire_name
from guestagent.host import model


class RefusedError(PeerError):
    """The hypervisor or the guest refused a request: it did not happen."""


class ConnectionLostError(UnknownOutcomeError):
    """The connection ended before the answer came; a query may be repeated on a new one."""


class GoneError(PeerError):
    """Nothing listens on the socket: the process behind it has ended or never ran."""


class Hypervisor(Protocol):
    """The QEMU at one end: its guest and its devices. Every wait is bounded.

    All methods but ``look`` raise RefusedError when the request was refused,
    UnknownOutcomeError when it was sent and no answer came, and PeerError when the request
    could not be sent or the answer was not understood.
    """

    @property
    def moments(self) -> tuple[model.Moment, ...]:
        """The events so far, in order, the newest 256."""

    async def look(self) -> model.QemuState:
        """Query the state of the guest; a failure to query is part of the result, not raised."""

    async def topology(self) -> model.Topology:
        """Read every PCI device and port that the guest sees."""

    @wire_name("means")
    async def capabilities(self) -> model.QemuCapabilities:
        """Read the abilities of this QEMU for a migration, and its limit of locked memory."""

    async def unplug(self, device_id: str, timeout_s: float) -> None:
        """Ask the guest to release a device and wait until it has gone.

        Raises RefusedError when the guest refuses or does not answer in time. The device was
        there when last queried, but a request that reached the guest stays with it: the guest
        may still release the device later.
        """

    async def plug(self, device: model.Device, timeout_s: float) -> None:
        """Add a device to the running guest."""

    @wire_name("proceed")
    async def resume(self) -> None:
        """Let the stopped guest run again."""

    async def wait_for_change(self, timeout_s: float) -> None:
        """Return when the guest stopped, resumed or a migration progressed, or after the time."""

    async def close(self) -> None:
        """Close the connection; the guest keeps running."""


class MigrationSource(Hypervisor, Protocol):
    """The end that sends a guest."""

    async def start_migration(self, uri: str, settings: model.MigrationSettings) -> None:
        """Begin to send the guest to ``uri``; returns when it has begun."""

    def follow_migration(self, settings: model.MigrationSettings) -> AsyncIterator[model.Progress]:
        """Yield the progress of the outgoing migration until it has ended, completed or not.

        The permitted downtime is raised meanwhile, up to the limit in ``settings``: a migration
        that is not followed may not come to an end.
        """

    async def cancel_migration(self) -> None:
        """Request the end of the outgoing migration; ``follow_migration`` shows the outcome.

        Raises RefusedError once post-copy has begun: the guest would be lost.
        """

    async def figures(self) -> model.MigrationFigures | None:
        """Return the figures of the outgoing migration, None if none has completed."""


class MigrationDestination(Hypervisor, Protocol):
    """The end that receives a guest."""

    async def expect_migration(self, uri: str, settings: model.MigrationSettings) -> None:
        """Listen on ``uri`` for a guest that arrives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """The connections of an operation; None for an end that it does not concern."""

    source: MigrationSource | None = None
    destination: MigrationDestination | None = None

    @property
    def connected(self) -> Mapping[model.End, Hypervisor]:
        """The ends that the operation concerns."""
        both = {model.End.SOURCE: self.source, model.End.DESTINATION: self.destination}
        return {end: hypervisor for end, hypervisor in both.items() if hypervisor is not None}

    def at(self, end: model.End) -> Hypervisor:
        """Return the hypervisor at ``end``."""
        return self.connected[end]

    def migration(self) -> tuple[MigrationSource, MigrationDestination]:
        """Return both ends of a migration."""
        if self.source is None or self.destination is None:
            raise InternalError("a migration needs a source and a destination")
        return self.source, self.destination


class Guest(Protocol):
    """The agent in the guest at one end. Its answers are claims of the guest, not facts.

    All methods raise RefusedError when the agent refused, PeerError or UnknownOutcomeError when
    it gave no usable answer; all may be repeated without harm.
    """

    async def to_standby(self, macs: tuple[str, ...], *, hold_s: float) -> None:
        """Have these pairs leave their VF for at most ``hold_s``; return when they have."""

    async def pairs(self) -> tuple[model.GuestPair, ...]:
        """Return the pairs that the agent sees, at most 64."""

    async def to_vf(self, macs: tuple[str, ...], *, timeout_s: float) -> None:
        """Have these pairs use their VF; return when they do."""
