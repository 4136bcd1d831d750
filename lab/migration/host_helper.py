"""The host helper as an operator uses it: a description of the VM, a process, its report."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guestagent.errors import PeerError
from lab.machine.machine import Machine
from lab.probe.accounting import Pause

PROGRAM = Path(sys.executable).with_name("guestagent-host")


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectSpan:
    """One phase of the helper, in seconds of CLOCK_MONOTONIC."""

    name: str
    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Report of ``guestagent-host migrate --json``."""

    exit_code: int
    result: str
    message: str | None
    running_on: str
    accelerated: bool
    phases: tuple[EffectSpan, ...]
    downtime: Pause | None
    """From the source's STOP to the destination's RESUME."""
    total_ms: float | None
    downtime_ms: float | None
    """As QEMU measured it."""

    def completed(self) -> Pause:
        """Return the downtime of a completed migration.

        :raise PeerError: it did not; the text is the helper's.
        """
        if self.exit_code != 0 or self.downtime is None:
            raise PeerError(f"guestagent-host ended with {self.exit_code}: {self.message}")
        return self.downtime

    def phase(self, name: str) -> EffectSpan:
        """Return a phase that took place; the whole of it if it has several steps.

        :raise PeerError: it did not.
        """
        spans = [span for span in self.phases if span.name == name]
        if not spans:
            raise PeerError(f"the host helper reported no phase {name}: {self}")
        return EffectSpan(name=name, begin_s=spans[0].begin_s, end_s=spans[-1].end_s)


def write_description(path: Path, source: Machine, destination: Machine) -> None:
    """Write the TOML file for the guest of ``source`` and its way to ``destination``."""
    lines = [f"name = {_quoted(source.setup.name)}"]
    for side, machine in (("source", source), ("destination", destination)):
        lines += [
            f"[{side}]",
            f"qmp = {_quoted(machine.directory / 'qmp-host.sock')}",
            f"qga = {_quoted(machine.directory / 'qga.sock')}",
            f"agent = {_quoted(machine.directory / 'agent.sock')}",
        ]
    lines.append(f"uri = {_quoted(f'unix:{destination.directory}/migration.sock')}")
    for pair in source.setup.pairs:
        device = ", ".join(f"{key} = {_quoted(value)}" for key, value in pair.vf_device().items())
        lines += [
            "[[pair]]",
            f"mac = {_quoted(pair.mac)}",
            f"standby = {_quoted(pair.standby)}",
            f"vf = {{ {device} }}",
        ]
    path.write_text("\n".join(lines) + "\n")


def migrate(
    description: Path, *, log: Path, on_progress: Callable[[str], None] = lambda _: None
) -> Report:
    """Run ``guestagent-host migrate`` to its end; its stderr goes to ``log`` line by line.

    :raise PeerError: it ended without a report; the text has its output.
    """
    state = description.parent / "state"
    argv = [str(PROGRAM), "migrate", "--json", "--state-dir", str(state), str(description)]
    with (
        log.open("w") as copy,
        subprocess.Popen(
            argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process,
    ):
        if process.stdout is None or process.stderr is None:
            raise PeerError("the host helper has no output")
        for line in process.stderr:
            copy.write(line)
            on_progress(line.rstrip())
        out = process.stdout.read()
        copy.write(out)
    try:
        return parse(json.loads(out), process.returncode)
    except (ValueError, KeyError, TypeError) as error:
        raise PeerError(
            f"the host helper ended with {process.returncode} and no report: {log.read_text()}"
        ) from error


def parse(report: Mapping[str, Any], exit_code: int, *, ahead_s: float = 0.0) -> Report:
    """Read a report; ``ahead_s`` is by how much the clock that it was written by is ahead."""
    figures = report["migration"] or {}
    stops = _moments(report, "stop", "source")
    resumes = _moments(report, "resume", "destination")
    downtime = None
    if stops and resumes:
        downtime = Pause(begin_s=stops[-1] - ahead_s, end_s=resumes[0] - ahead_s)
    return Report(
        exit_code=exit_code,
        result=report["result"],
        message=report["message"],
        running_on=report["running_on"],
        accelerated=report["accelerated"],
        phases=tuple(
            EffectSpan(
                name=phase["name"],
                begin_s=phase["start_s"] - ahead_s,
                end_s=phase["end_s"] - ahead_s,
            )
            for phase in report["phases"]
        ),
        downtime=downtime,
        total_ms=figures.get("total_ms"),
        downtime_ms=figures.get("downtime_ms"),
    )


def _moments(report: Mapping[str, Any], name: str, side: str) -> list[float]:
    return [
        moment["at_s"]
        for moment in report["moments"]
        if (moment["name"], moment["side"]) == (name, side)
    ]


def _quoted(value: object) -> str:
    """Return a TOML string; JSON's form of plain text is one."""
    return json.dumps(str(value))
