"""Turns the outcome of an effect into an event of the state machine."""

from __future__ import annotations

from collections.abc import Awaitable

from guestagent import errors
from guestagent.host.hypervisor.base import RefusedError
from guestagent.host.migration.events import Event, OutcomeUnknown, Rejected, Succeeded
from guestagent.host.sriov.base import VfRefusedError

REFUSED = (
    RefusedError,
    VfRefusedError,
    errors.BusyError,
    errors.ConflictError,
    errors.DeadlineError,
    errors.SystemLacksError,
)
"""Errors of a request that did not run; all but the first come from VF pools or the far host."""
FAILED = (*REFUSED, errors.PeerError, errors.UnknownOutcomeError)
"""All errors of an effect; after PeerError and UnknownOutcomeError it may have run."""


async def event_of(effect: Awaitable[None]) -> Event:
    """Await an effect and return its outcome as an event."""
    try:
        await effect
    except REFUSED as error:
        return Rejected(detail=str(error))
    except FAILED as error:
        return OutcomeUnknown(detail=str(error))
    return Succeeded()
