"""The commands of README.md can be typed."""

from __future__ import annotations

import re
from pathlib import Path

from guestagent.host.config.description import load
from lab.dev.commands import COMMANDS
from tests.lint.tree import ROOT

README = (ROOT / "README.md").read_text()


def test_the_described_vm_is_a_valid_description(tmp_path: Path) -> None:
    lines = README.partition("where `web1.toml` describes")[2].splitlines()
    description = "\n".join(line.strip() for line in lines if line.startswith("    "))
    path = tmp_path / "web1.toml"
    path.write_text(description)
    vm = load(path)
    assert vm.name == "web1"
    assert vm.destination is not None


def test_every_command_of_dev_exists() -> None:
    assert set(re.findall(r"\./dev (\w+)", README)) <= COMMANDS.keys()
