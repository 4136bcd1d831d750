"""Facts gathered before a migration, and constructors of findings about them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from guestagent.findings import Finding, Severity
from guestagent.host.model import GuestPair, QemuCapabilities, QemuState, Topology
from guestagent.host.sriov.core.model import Inventory


@dataclass(frozen=True, slots=True, kw_only=True)
class EndFacts:
    """Answers from one QEMU. A field is None if the query failed; ``unknown`` holds the reason."""

    view: QemuState
    topology: Topology | None = None
    means: QemuCapabilities | None = None
    inventory: Inventory | None = None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightFacts:
    """All facts before a migration; ``guest`` is None if no agent answered."""

    source: EndFacts
    destination: EndFacts | None
    guest: tuple[GuestPair, ...] | None
    guest_silent: str | None = None
    other_operation: Finding | None = None


def combined(findings: tuple[Finding, ...]) -> Finding | None:
    """Combine all errors into one finding; None if there are none."""
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if not errors:
        return None
    return Finding(
        message="; ".join(finding.message for finding in errors),
        hint="; ".join(dict.fromkeys(finding.hint for finding in errors if finding.hint)),
    )
