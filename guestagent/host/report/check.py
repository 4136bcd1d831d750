"""Output of ``check``, for people and for programs."""

from __future__ import annotations

from guestagent.errors import EXIT_DONE, EXIT_FAILED
from guestagent.findings import Finding, Severity
from guestagent.host.model import Vm
from guestagent.host.report.document import document
from guestagent.host.terminal import coloured

_GRADES = {
    Severity.OK: ("fine", 32),
    Severity.WARNING: ("warning", 33),
    Severity.ERROR: ("wrong", 31),
}
"""The name of a severity in the output, and its ANSI colour."""


def exit_code(findings: tuple[Finding, ...]) -> int:
    """Return 1 if there is an error."""
    bad = any(finding.severity is Severity.ERROR for finding in findings)
    return EXIT_FAILED if bad else EXIT_DONE


def as_json(vm: Vm, findings: tuple[Finding, ...]) -> str:
    """Return the findings for programs."""
    return document(
        command="check",
        vm=vm.name,
        exit_code=exit_code(findings),
        findings=[
            {
                "subject": finding.subject,
                "grade": _GRADES[finding.severity][0],
                "what": finding.message,
                "hint": finding.hint,
            }
            for finding in findings
        ],
    )


def as_text(vm: Vm, findings: tuple[Finding, ...]) -> str:
    """Return the findings for people, with errors last, where they are seen."""
    lines = []
    for severity, (grade, colour) in _GRADES.items():
        for finding in findings:
            if finding.severity is severity:
                word = coloured(f"{grade:<8}", colour)
                lines.append(f"{word} {finding.subject:<14} {finding.message}")
                lines += [f"{'':<24}what to do: {finding.hint}"] if finding.hint else []
    count = sum(finding.severity is Severity.ERROR for finding in findings)
    end = "no obstacle to a migration" if not count else f"{count} obstacles to a migration"
    return "\n".join([*lines, f"{vm.name}: {end}"])
