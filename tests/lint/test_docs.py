"""What the documents show can be typed, is read by our programs, and is what the files say."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from guestagent.guest.state import config as guest_config
from guestagent.host.config import description as host_config
from tests.lint.test_manuals import PARSERS
from tests.lint.tree import ROOT

DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*DOCS, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))]
SCRIPT = (ROOT / "packaging" / "examples" / "vm").read_text()
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def fenced(path: Path, language: str) -> list[str]:
    """Return the blocks of a language that a page shows."""
    return [text for found, text in _FENCE.findall(path.read_text()) if found == language]


def typed(path: Path) -> list[list[str]]:
    """Return the words of every line of a page that calls one of our programs."""
    indented = _FENCE.sub("", path.read_text()).splitlines()
    lines = [line.strip() for line in indented if line.startswith("    ")]
    lines += [line for text in fenced(path, "sh") for line in text.splitlines()]
    calls = (line.removeprefix("$ ").partition("#")[0] for line in lines)
    return [shlex.split(call) for call in calls if call.partition(" ")[0] in PARSERS]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_call_of_our_programs_is_understood(path: Path) -> None:
    for words in typed(path):
        PARSERS[words[0]]().parse_args(words[1:])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", path.read_text()) if ":" not in link]
    assert [link for link in links if not (path.parent / link.partition("#")[0]).exists()] == []


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_shell_example_is_well_formed(path: Path) -> None:
    for text in fenced(path, "sh"):
        done = subprocess.run(
            ["bash", "-n"], input=text, check=False, capture_output=True, text=True
        )
        assert done.stderr == "", text


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_configuration_is_read(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "example.toml"
    for text in fenced(path, "toml"):
        file.write_text(text.replace("@DEST@", "host2"))
        if "[[pair]]" in text:
            host_config.load(file)
        else:
            guest_config.load(file)


def test_the_readers_are_led_to_their_pages() -> None:
    readme = (ROOT / "README.md").read_text()
    pages = ["CONTRIBUTING.md", *(f"docs/{path.name}" for path in DOCS)]
    assert [page for page in pages if f"({page})" not in readme] == []


def test_the_command_line_of_qemu_is_that_of_the_script() -> None:
    (shown,) = (
        text for text in fenced(ROOT / "docs" / "hosts.md", "sh") if text.startswith("qemu-system")
    )
    assert words(shown) in words(SCRIPT)


def test_the_script_says_how_it_is_used() -> None:
    done = subprocess.run(
        [str(ROOT / "packaging" / "examples" / "vm")], check=False, capture_output=True, text=True
    )
    cases = re.findall(r"^(\w+)\) ", SCRIPT, re.MULTILINE)
    assert done.returncode == 2
    assert [case for case in cases if f"vm {case} NAME" not in done.stderr] == []


def words(text: str) -> str:
    """Return a text without its line breaks and indentations."""
    return " ".join(text.replace("\\\n", " ").split())
