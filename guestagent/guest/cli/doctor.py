"""``doctor``: what would go wrong, and what to do about it."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from guestagent.errors import EXIT_DONE, EXIT_FAILED

if TYPE_CHECKING:
    from guestagent.guest.cli.groups import Commands
    from guestagent.guest.doctor.facts import Finding


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
    from guestagent.guest.doctor.examine import VERSION, examine, something_breaks
    from guestagent.guest.doctor.gather.collect import gather

    findings = examine(gather(arguments.config))
    breaks = something_breaks(findings)
    if arguments.json:
        form = {
            "version": VERSION,
            "healthy": not breaks,
            "findings": [asdict(item) for item in findings],
        }
        print(json.dumps(form, indent=2))
    else:
        print("\n".join([*(_text(item) for item in findings), _summary(findings)]))
    return EXIT_FAILED if breaks else EXIT_DONE


def _text(finding: Finding) -> str:
    return f"{finding.severity:7}  {finding.about}: {finding.seen}\n         → {finding.advice}"


def _summary(findings: tuple[Finding, ...]) -> str:
    counts = [
        f"{count} {severity}{'s' if count > 1 else ''}"
        for severity in ("error", "warning", "note")
        if (count := sum(item.severity == severity for item in findings))
    ]
    return ", ".join(counts) if counts else "nothing is wrong"
