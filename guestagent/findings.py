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
