"""What was looked at before a migration, and how bad it is. Pure; judged in ``preflight``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from guestagent.host.migration.state import Problem
from guestagent.host.model import GuestPair, Means, Topology, View
from guestagent.host.sriov.core.model import Inventory


class Grade(StrEnum):
    """How bad a finding is."""

    FINE = "fine"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at; ``hint`` says what to do about it."""

    subject: str
    grade: Grade
    what: str
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SideFacts:
    """What one side said; None is what could not be asked, and ``unknown`` says why."""

    view: View
    topology: Topology | None = None
    means: Means | None = None
    inventory: Inventory | None = None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known before a migration; ``guest`` is None where no agent answered."""

    source: SideFacts
    destination: SideFacts | None
    guest: tuple[GuestPair, ...] | None
    guest_silent: str | None = None
    other_operation: Problem | None = None


def fine(subject: str, what: str) -> Finding:
    """Return what is as it has to be."""
    return Finding(subject=subject, grade=Grade.FINE, what=what)


def warning(subject: str, what: str, hint: str | None) -> Finding:
    """Return what costs something."""
    return Finding(subject=subject, grade=Grade.WARNING, what=what, hint=hint)


def wrong(subject: str, what: str, hint: str | None) -> Finding:
    """Return what is in the way."""
    return Finding(subject=subject, grade=Grade.WRONG, what=what, hint=hint)


def as_problem(findings: tuple[Finding, ...]) -> Problem | None:
    """Return all that is wrong as one problem; None where nothing is."""
    bad = [finding for finding in findings if finding.grade is Grade.WRONG]
    if not bad:
        return None
    return Problem(
        what="; ".join(finding.what for finding in bad),
        hint="; ".join(dict.fromkeys(finding.hint for finding in bad if finding.hint)),
    )
