"""The command line knows the same commands whichever part of it is loaded."""

from __future__ import annotations

import re

from guestagent.guest.cli.main import _parser


def offered(first: str = "") -> set[str]:
    """Return the commands that are known when the command line begins with ``first``."""
    commands = _parser(first).format_help().partition("commands:")[2].partition("examples:")[0]
    return set(re.findall(r"^    ([a-z]+) ", commands, re.MULTILINE))


def test_a_command_is_known_when_its_group_alone_is_loaded() -> None:
    everything = offered()
    assert {"run", "early", "status", "doctor", "switch", "undo", "render"} < everything
    assert [name for name in everything if name not in offered(name)] == []


def test_at_boot_nothing_is_loaded_for_other_commands() -> None:
    assert offered("early") == {"run", "early", "hide"}


def test_an_unknown_command_gets_the_list_of_all_commands() -> None:
    for first in ("--help", "--config", "statsu", ""):
        assert offered(first) == offered()
