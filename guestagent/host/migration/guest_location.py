"""The location of the guest, concluded from the answers of both QEMUs. Pure.

Two QEMUs that both run one guest destroy its disks, so a location is named only when the
answers leave no other possibility.
"""

from __future__ import annotations

from enum import StrEnum

from guestagent.host.model import QemuState


class GuestLocation(StrEnum):
    """The location of the guest.

    ======================  ==============================================================
    ``SOURCE``              it is there, running or as it was left
    ``SOURCE_STOPPED``      it is there alone, stopped by a migration that failed
    ``MOVING``              the source is sending it
    ``ARRIVING``            the source has sent all, the destination is still loading
    ``DESTINATION``         it runs there, and not at the source
    ``DESTINATION_STOPPED`` it is there alone, loaded and waiting to be started
    ``UNKNOWN``             the answers do not prove any of these
    ======================  ==============================================================
    """

    SOURCE = "source"
    SOURCE_STOPPED = "source-stopped"
    MOVING = "moving"
    ARRIVING = "arriving"
    DESTINATION = "destination"
    DESTINATION_STOPPED = "destination-stopped"
    UNKNOWN = "unknown"


_STOPPED = frozenset({"paused", "postmigrate", "prelaunch", "finish-migrate"})


def location_of(source: QemuState, destination: QemuState | None) -> GuestLocation:
    """Conclude where the guest is; ``destination`` is None if there is no other end."""
    if source.unreachable is not None:
        # A source that does not answer may still run the guest; one that has ended cannot.
        # During post-copy a part of the guest was lost with it.
        runs = destination is not None and destination.running
        whole = destination is not None and not destination.moving
        return (
            GuestLocation.DESTINATION if source.gone and runs and whole else GuestLocation.UNKNOWN
        )
    if source.running and destination is not None and destination.running:
        return GuestLocation.UNKNOWN
    if source.moving:
        return GuestLocation.MOVING
    if source.running:
        return GuestLocation.SOURCE
    if source.run_state not in _STOPPED:
        return GuestLocation.UNKNOWN  # shut down or crashed: this program cannot decide that
    if source.migration == "completed" and source.run_state in {"postmigrate", "finish-migrate"}:
        return _after_completion(destination)
    if destination is not None and destination.running:
        return GuestLocation.DESTINATION if source.migration is not None else GuestLocation.UNKNOWN
    if source.migration in {"failed", "cancelled"}:
        return _after_failure(destination)
    return GuestLocation.SOURCE


def _after_completion(destination: QemuState | None) -> GuestLocation:
    """The source has sent everything, and must not run the guest again."""
    if destination is None or destination.unreachable is not None:
        return GuestLocation.UNKNOWN
    if destination.running:
        return GuestLocation.DESTINATION
    if destination.run_state == "inmigrate" or destination.moving:
        return GuestLocation.ARRIVING
    if destination.run_state == "paused" and destination.migration == "completed":
        return GuestLocation.DESTINATION_STOPPED
    return GuestLocation.UNKNOWN


def _after_failure(destination: QemuState | None) -> GuestLocation:
    """The source is stopped; it has the guest if the destination can no longer start it."""
    if destination is None or destination.gone:
        return GuestLocation.SOURCE_STOPPED
    if destination.unreachable is not None:
        return GuestLocation.UNKNOWN
    if destination.migration == "failed":
        return GuestLocation.SOURCE_STOPPED
    if destination.migration is None and destination.run_state == "inmigrate":
        return GuestLocation.SOURCE_STOPPED  # it never listened
    return GuestLocation.ARRIVING if destination.moving else GuestLocation.UNKNOWN
