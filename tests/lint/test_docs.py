"""The documents' commands can be typed, their configurations load, and their quotes are true."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from guestagent.guest.state import config as guest_config
from guestagent.host.config import description as host_config
from tests.lint import state_table
from tests.lint.structure import LINES_OF_A_FUNCTION, LINES_OF_A_MODULE
from tests.lint.test_manuals import PARSERS
from tests.lint.tree import ROOT

DOCS = sorted((ROOT / "docs").glob("*.md"))
DESIGN = sorted((ROOT / "docs" / "design").glob("*.md"))
GUIDES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [*DOCS, *DESIGN, *GUIDES]
TOPICS = [page for page in DESIGN if page.name not in {"README.md", "glossary.md"}]
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


def page_name(path: Path) -> str:
    """Return the path of a page below the root, as a test's name shows it."""
    return str(path.relative_to(ROOT))


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, in the form that GitHub gives them."""
    titles = re.findall(r"^#+ (.*)$", _FENCE.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_every_call_of_our_programs_is_understood(path: Path) -> None:
    for words in typed(path):
        PARSERS[words[0]]().parse_args(words[1:])


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        target, _, anchor = link.partition("#")
        if ":" in link:
            continue
        page = path.parent / target if target else path
        assert page.exists(), link
        assert not anchor or anchor in anchors(page), link


@pytest.mark.parametrize("path", [*DESIGN, ROOT / "CONTRIBUTING.md"], ids=page_name)
def test_every_path_that_a_design_page_names_exists(path: Path) -> None:
    """Paths below the root, and those of folders of ``guestagent/``, which are shortened."""
    found = re.findall(r"`((?:[\w.-]+/)+[\w.@-]*)`", path.read_text())
    tops = {"docs", "guest", "guestagent", "host", "lab", "packaging", "tests", "udev"}
    named = [name for name in found if name.partition("/")[0] in tops]
    near = (ROOT, ROOT / "guestagent")
    assert [name for name in named if not any((top / name).exists() for top in near)] == []


@pytest.mark.parametrize("path", TOPICS, ids=page_name)
def test_a_design_page_says_when_to_read_it_and_how_to_review(path: Path) -> None:
    text = path.read_text()
    assert text.split("\n\n")[1].startswith("Read this before you change ")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE)[-1] == "Review notes"


def test_every_design_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "design" / "README.md").read_text()
    names = [page.name for page in DESIGN if page.name != "README.md"]
    assert [name for name in names if f"({name})" not in index] == []


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


def test_the_guide_for_contributors_is_short_and_states_the_limits_that_are_held() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    assert len(guide.splitlines()) <= 150
    limits = f"at most {LINES_OF_A_MODULE} lines, and a function {LINES_OF_A_FUNCTION}"
    assert limits in words(guide)


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


def test_the_example_of_a_network_stack_is_the_one_that_keeps_the_contract() -> None:
    (shown,) = fenced(ROOT / "CONTRIBUTING.md", "python")
    assert shown in (ROOT / "tests" / "contract" / "example_stack.py").read_text()
    assert shown.startswith("class Example(NetworkStack):")
    defined = [line for line in shown.splitlines() if line.strip()]
    assert len(defined) <= 13, "it is shown because it is short"


def words(text: str) -> str:
    """Return a text without its line breaks and indentations."""
    return " ".join(text.replace("\\\n", " ").split())


def test_the_page_has_the_table_of_the_state_machine() -> None:
    page = state_table.PAGE.read_text()
    assert page.count(state_table.BEGIN) == page.count(state_table.END) == 1
    assert page == state_table.with_table(page), "run: python -m tests.lint.state_table"
