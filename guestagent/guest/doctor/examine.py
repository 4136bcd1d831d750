"""All judges over one look, the worst finding first. Pure."""

from __future__ import annotations

from guestagent.guest.doctor import nics, stacks, system
from guestagent.guest.doctor.facts import Facts, Finding, Severity

VERSION = 1
JUDGES = (
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
    stacks.claims,
    stacks.marks,
    system.host_channel,
    system.journal,
    system.unseen,
)


def examine(facts: Facts) -> tuple[Finding, ...]:
    """Return what is wrong, errors before warnings before notes."""
    found = [finding for judge in JUDGES for finding in judge(facts)]
    return tuple(sorted(found, key=lambda finding: list(Severity).index(finding.severity)))


def something_breaks(findings: tuple[Finding, ...]) -> bool:
    """Whether one of the findings is an error."""
    return any(finding.severity is Severity.ERROR for finding in findings)
