"""The tools of a contributor: one version of each everywhere, and the same checks at a commit."""

from __future__ import annotations

import re
import tomllib
from configparser import ConfigParser

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.lint.test_linters import LINTERS
from tests.lint.tree import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)$", CONSTRAINTS, re.MULTILINE))
# Started by hooks that see the files of one commit; the others look at the whole tree.
AT_A_COMMIT = {"ruff check", "ruff format", "codespell", "mypy"}


@pytest.mark.parametrize("text", REQUIREMENTS)
def test_a_tool_has_one_version_within_the_range_of_the_project(text: str) -> None:
    requirement = Requirement(text)
    pins = {canonicalize_name(name): version for name, version in PINS.items()}
    assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


def test_nothing_but_versions_is_in_the_constraints() -> None:
    lines = CONSTRAINTS.splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        f"{name}=={version}" for name, version in PINS.items()
    ]


def test_a_commit_is_checked_by_the_linters_of_the_project() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    started = set(re.findall(r"exec (ruff \w+|\w+)", hooks))
    assert started == AT_A_COMMIT <= set(LINTERS)
    assert set(re.findall(r"repo: (\S+)", hooks)) == {"local"}, "nothing is fetched"


def test_editors_and_the_formatter_break_lines_alike() -> None:
    editors = ConfigParser()
    editors.read_string(f"[top]\n{(ROOT / '.editorconfig').read_text()}")
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    assert editors["*"]["max_line_length"] == str(ruff["line-length"])
