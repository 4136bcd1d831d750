"""Shell completion knows every command and option that the programs know."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lint.tree import ROOT

PROGRAMS = {
    "guestagent": "guestagent.guest.cli.main",
    "guestagent-host": "guestagent.host.cli.main",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_completion_has_every_command_and_option(program: str) -> None:
    script = ROOT / "packaging" / "completion" / program
    for command in commands(program):
        words = command.split()
        assert words[-1] in _complete(script, program, *words[:-1], "")
        assert set(_complete(script, program, *words, "--")) == options(program, command)


def _ask(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", PROGRAMS[program], *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    return done.stdout + done.stderr


def commands(program: str) -> list[str]:
    """Return the commands, which argparse lists when it is given one that does not exist.

    A command that has actions is there as ``vf list`` and so on, and not by itself.
    """
    said = _ask(program, "no-such-command")
    choices = re.search(r"choose from (.*)\)", said)
    assert choices is not None, said
    return [
        name
        for command in re.findall(r"[\w-]+", choices[1])
        for name in _actions(program, command)
    ]


def _actions(program: str, command: str) -> list[str]:
    actions = re.search(r"\{([\w,-]+)\} \.\.\.", _ask(program, command, "--help"))
    if actions is None:
        return [command]
    return [f"{command} {action}" for action in actions[1].split(",")]


def options(program: str, command: str) -> set[str]:
    """Return the options of a command, as its help lists them."""
    usage = _ask(program, *command.split(), "--help").partition("options:")[2]
    return set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", usage, re.MULTILINE))


def _complete(script: Path, program: str, *words: str) -> list[str]:
    function = f"_{program.replace('-', '_')}"
    body = (
        f'source "$0"; COMP_WORDS=({program} "$@"); COMP_CWORD={len(words)}; {function}; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", body, str(script), *words], check=True, capture_output=True, text=True
    )
    return done.stdout.split()
