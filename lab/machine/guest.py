"""Commands that the lab runs in a guest as root, wherever its QEMU runs."""

from __future__ import annotations

import json
import shlex

from guestagent.errors import DeadlineError, PeerError
from lab.machine.commands import Commands, Completed
from lab.machine.monitor import Json
from lab.machine.setup import Setup

BOOT_TIMEOUT_S = 400.0
COMMAND_TIMEOUT_S = 180.0


class CommandGuest:
    """A guest that runs commands; ``setup`` describes its devices and files."""

    patience = 1.0
    """By what this guest's time for a command is longer than that of an ordinary one."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._commands: Commands

    def wait_ready(self, *, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """Wait for the end of the guest's start-up, be all its units well or not.

        :raise DeadlineError: it has not ended.
        """
        done = self._commands.run("systemctl is-system-running --wait", timeout_s=timeout_s)
        if done.code is None:
            raise DeadlineError(f"{self.setup.name}: not started within {timeout_s} s")

    def execute(
        self, script: str, *, stdin: str = "", timeout_s: float = COMMAND_TIMEOUT_S
    ) -> Completed:
        """Run a bash script as root in the guest; any exit code is a result.

        :raise DeadlineError: the guest does not answer.
        """
        return self._commands.run(script, stdin=stdin, timeout_s=timeout_s * self.patience)

    def run(self, script: str, *, stdin: str = "", timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run a bash script as root in the guest and return its stdout.

        :raise DeadlineError: the guest does not answer, or the script took too long.
        :raise PeerError: the script failed; the text carries its stderr.
        """
        done = self.execute(script, stdin=stdin, timeout_s=timeout_s)
        if done.code is None:
            raise DeadlineError(f"{self.setup.name}: longer than {timeout_s} s: {script}")
        if done.code != 0:
            said = f"{done.stdout}{done.stderr}"
            raise PeerError(f"{self.setup.name}: exit code {done.code} of: {script}\n{said}")
        return done.stdout

    def run_json(self, script: str, *, timeout_s: float = COMMAND_TIMEOUT_S) -> Json:
        """Run a script and return the JSON value that it prints (None for nothing)."""
        out = self.run(script, timeout_s=timeout_s)
        return json.loads(out) if out.strip() else None

    def ip(self, *arguments: str) -> Json:
        """Return the output of ``ip -json -details ARGUMENTS``."""
        return self.run_json(f"ip -json -details {shlex.join(arguments)}")

    def write_file(self, path: str, content: str) -> None:
        """Write a file in the guest."""
        self.run(f"mkdir -p $(dirname {path}) && cat > {path}", stdin=content)
