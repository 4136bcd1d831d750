"""``doctor``: faults that appear when the VF comes or goes, each with a hint."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from guestagent.errors import EXIT_DONE, EXIT_FAILED

if TYPE_CHECKING:
    from guestagent.findings import Finding
    from guestagent.guest.cli.groups import Commands


def add(commands: Commands) -> None:
    """Add the parser."""
    doctor = commands.add_parser(
        "doctor",
        help="find what would go wrong, and say what to do about it",
        description="Look at kernel, units, configuration, cloud-init, network stacks, NICs and"
        " bonds, changing nothing, and report what would go wrong when the VF comes or goes."
        " Ends with 1 when something would break, with 0 when nothing would.",
        epilog="Run it when an image is built, before a first migration, and when a pair is not"
        " bonded.",
    )
    doctor.add_argument("--json", action="store_true", help="print the versioned JSON form")
    doctor.set_defaults(command=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from guestagent.guest.doctor.examine import VERSION, examine, has_error
    from guestagent.guest.doctor.gather.collect import gather

    findings = examine(gather(arguments.config))
    failed = has_error(findings)
    if arguments.json:
        form = {
            "version": VERSION,
            "healthy": not failed,
            "findings": [_form(item) for item in findings],
        }
        print(json.dumps(form, indent=2))
    else:
        print("\n".join([*(_text(item) for item in findings), _summary(findings)]))
    return EXIT_FAILED if failed else EXIT_DONE


def _form(finding: Finding) -> dict[str, str | None]:
    return {
        "severity": finding.severity,
        "about": finding.subject,
        "seen": finding.message,
        "advice": finding.hint,
    }


def _text(finding: Finding) -> str:
    message = f"{finding.subject}: {finding.message}"
    return f"{finding.severity:7}  {message}\n         → {finding.hint}"


def _summary(findings: tuple[Finding, ...]) -> str:
    counts = [
        f"{count} {severity}{'s' if count > 1 else ''}"
        for severity in ("error", "warning", "note")
        if (count := sum(item.severity == severity for item in findings))
    ]
    return ", ".join(counts) if counts else "nothing is wrong"
