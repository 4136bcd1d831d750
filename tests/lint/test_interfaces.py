"""Man pages and shell completion know every command and key that the programs know."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from guestagent.guest import config as guest_config
from guestagent.host import config as host_config
from tests.lint.tree import ROOT

PROGRAMS = {"guestagent": "guestagent.guest.cli", "guestagent-host": "guestagent.host.cli"}
EXAMPLES = {"guestagent": guest_config.EXAMPLE, "guestagent-host": host_config.EXAMPLE}


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_man_page_has_every_command_option_and_key(program: str) -> None:
    page = _plain(ROOT / "packaging" / "man" / f"{program}.8")
    commands = _commands(program)
    words = {*commands, *_keys(EXAMPLES[program])}
    for command in commands:
        words |= _options(program, command)
    assert sorted(word for word in words if not _has(page, word)) == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_completion_has_every_command_and_option(program: str) -> None:
    script = ROOT / "packaging" / "completion" / program
    commands = _commands(program)
    for command in commands:
        *before, last = command.split()
        assert last in _complete(script, program, *before, "")
        assert set(_complete(script, program, *command.split(), "--")) == _options(
            program, command
        )


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_man_page_is_well_formed(program: str) -> None:
    page = ROOT / "packaging" / "man" / f"{program}.8"
    done = subprocess.run(
        ["groff", "-man", "-ww", "-z", "-Tutf8", str(page)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""


def _ask(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", PROGRAMS[program], *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    return done.stdout + done.stderr


def _commands(program: str) -> list[str]:
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


def _options(program: str, command: str) -> set[str]:
    usage = _ask(program, *command.split(), "--help").partition("options:")[2]
    return set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", usage, re.MULTILINE))


def _keys(example: str) -> set[str]:
    return set(re.findall(r"^(?:# )?([\w-]+) =", example, re.MULTILINE))


def _plain(page: Path) -> str:
    return page.read_text().replace("\\-", "-")


def _has(text: str, word: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) is not None


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
