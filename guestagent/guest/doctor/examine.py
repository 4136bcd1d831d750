"""All checks on the facts of one guest, the worst finding first. Pure."""

from __future__ import annotations

from guestagent.findings import Finding, Severity
from guestagent.guest.doctor import nics, stacks, system
from guestagent.guest.doctor.facts import GuestFacts

VERSION = 1
CHECKS = (
    system.configuration,
    system.bonding_module,
    system.units,
    system.running_agent,
    system.cloud_init,
    nics.left_alone,
    nics.made_up_mac,
    nics.changed_mac,
    nics.mtu,
    nics.silent_vf,
    nics.ports,
    nics.rp_filter,
    nics.firewall,
    stacks.competing_stacks,
    stacks.marks,
    system.host_channel,
    system.journal,
    system.unseen,
)


def examine(facts: GuestFacts) -> tuple[Finding, ...]:
    """Return the findings, errors before warnings before notes."""
    found = [finding for check in CHECKS for finding in check(facts)]
    worst_first = [Severity.ERROR, Severity.WARNING, Severity.NOTE]
    return tuple(sorted(found, key=lambda finding: worst_first.index(finding.severity)))


def has_error(findings: tuple[Finding, ...]) -> bool:
    """Whether one of the findings is an error."""
    return any(finding.severity is Severity.ERROR for finding in findings)
