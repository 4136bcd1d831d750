"""The host helper as a process of its own, to be watched and interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.machine.machine import Machine
from lab.migration.host_helper import write_description

END_TIMEOUT_S = 300.0


class Helper:
    """A running ``guestagent-host`` with ``--json``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def report(self) -> Any:
        """Wait for its end and return its report."""
        out, err = self._process.communicate(timeout=END_TIMEOUT_S)
        try:
            report = json.loads(out)
        except ValueError:
            raise AssertionError(f"no report but {out!r}, and on stderr: {err}") from None
        assert report["exit_code"] == self._process.returncode
        return report


@contextmanager
def started(
    description: Path, command: str, *options: str, enter: Sequence[str] = ()
) -> Iterator[Helper]:
    """Run a command of the helper; it is killed if it is still there at the end.

    ``enter`` is the beginning of a command line that runs it elsewhere.
    """
    argv = [
        *enter,
        *(sys.executable, "-m", "guestagent.host.cli.main", command, str(description), "--json"),
        *("--state-dir", str(description.parent / "state"), *options),
    ]
    with subprocess.Popen(
        argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield Helper(process)
        finally:
            process.kill()


def run(description: Path, command: str, *options: str, enter: Sequence[str] = ()) -> Any:
    """Run a command of the helper to its end and return its report."""
    with started(description, command, *options, enter=enter) as helper:
        return helper.report()


def mortal(
    description: Path, when: str, phase: str, *, command: str = "migrate"
) -> subprocess.Popen[bytes]:
    """Start a command that is killed there; see ``mortal.py``."""
    argv = [sys.executable, "-m", "tests.vm.mortal", when, phase, command, str(description)]
    state = ("--state-dir", str(description.parent / "state"))
    return subprocess.Popen([*argv, *state], stdout=subprocess.DEVNULL)


def must_be_killed(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end that was to come."""
    try:
        assert process.wait(END_TIMEOUT_S) == -signal.SIGKILL
    finally:
        process.kill()


def inspect(description: Path) -> Any:
    """Return the helper's view of the source."""
    argv = [
        sys.executable,
        "-m",
        "guestagent.host.cli.main",
        "inspect",
        str(description),
        "--json",
    ]
    return json.loads(subprocess.run(argv, check=True, capture_output=True).stdout)


def describe(directory: Path, source: Machine, destination: Machine, more: str = "") -> Path:
    """Write the description of a VM; ``more`` goes on after the keys of its last pair."""
    path = directory / f"{source.setup.name}.toml"
    write_description(path, source, destination)
    path.write_text(f"{path.read_text()}{more}\n")
    return path
