"""The result of an examination: an observation, its severity, and what to do about it.

Shared by both programs: ``doctor``, ``adopt`` and ``undo`` in the guest, ``check`` and the
failures of an operation on the host.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from guestagent.codec import wire


class Severity(StrEnum):
    """How bad a finding is, from harmless to fatal."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """An observation about ``subject``; ``hint`` is the action that corrects it, or None.

    The subject is empty where the message names it. The host's journal stores a finding of
    severity ERROR without a subject, under the names ``Problem`` and ``what``.
    """

    WIRE_NAME: ClassVar[str] = "Problem"

    severity: Severity = Severity.ERROR
    subject: str = ""
    message: str = field(metadata=wire("what"))
    hint: str | None = None


def ok(subject: str, message: str) -> Finding:
    """Return a finding about a condition that is met."""
    return Finding(severity=Severity.OK, subject=subject, message=message)


def note(subject: str, message: str, hint: str | None = None) -> Finding:
    """Return a finding about something that is not wrong."""
    return Finding(severity=Severity.NOTE, subject=subject, message=message, hint=hint)


def warning(subject: str, message: str, hint: str | None = None) -> Finding:
    """Return a finding that costs something: packets, acceleration or convenience."""
    return Finding(severity=Severity.WARNING, subject=subject, message=message, hint=hint)


def error(subject: str, message: str, hint: str | None = None) -> Finding:
    """Return a finding that fails, or prevents an operation."""
    return Finding(severity=Severity.ERROR, subject=subject, message=message, hint=hint)
