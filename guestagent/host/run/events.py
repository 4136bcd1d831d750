"""What came of an effect, as the state machine is told of it."""

from __future__ import annotations

from collections.abc import Awaitable

from guestagent.errors import (
    BusyError,
    ConflictError,
    DeadlineError,
    PeerError,
    SystemLacksError,
    UnknownOutcomeError,
)
from guestagent.host.hypervisor.base import RefusedError
from guestagent.host.migration.state import Event, OutcomeUnknown, Rejected, Succeeded
from guestagent.host.sriov.base import VfRefusedError

TURNED_DOWN = (
    RefusedError,
    VfRefusedError,
    BusyError,
    ConflictError,
    DeadlineError,
    SystemLacksError,
)
"""What was not begun; all but the first are said of VFs and leases, or by another host's end."""
FAILED = (*TURNED_DOWN, PeerError, UnknownOutcomeError)
"""And what may have run."""


async def event_of(effect: Awaitable[None]) -> Event:
    """Await an effect and tell what came of it as an event."""
    try:
        await effect
    except TURNED_DOWN as error:
        return Rejected(detail=str(error))
    except FAILED as error:
        return OutcomeUnknown(detail=str(error))
    return Succeeded()
