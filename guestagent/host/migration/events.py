"""The events of the state machine: the results of effects, and a cancellation. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from guestagent.host.model import QemuState


@dataclass(frozen=True, slots=True, kw_only=True)
class BothViews:
    """The answers of both QEMUs; ``away`` is None if the goal concerns one end only."""

    WIRE_NAME: ClassVar[str] = "Seen"

    home: QemuState
    away: QemuState | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """The effect was achieved."""

    WIRE_NAME: ClassVar[str] = "Done"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoVfAvailable:
    """VFs were claimed, all but these: none that fits is free."""

    WIRE_NAME: ClassVar[str] = "Lacking"

    vfs: tuple[str, ...]
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The effect was refused and did not happen."""

    WIRE_NAME: ClassVar[str] = "Refused"

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeUnknown:
    """The effect may have happened: no answer came."""

    WIRE_NAME: ClassVar[str] = "Lost"

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedOut:
    """The migration takes longer than it may."""

    WIRE_NAME: ClassVar[str] = "Overdue"

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """The operator cancels the operation."""


Event = BothViews | Succeeded | NoVfAvailable | Rejected | OutcomeUnknown | TimedOut | Cancel
