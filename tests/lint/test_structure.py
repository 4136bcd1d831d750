"""The walls between the rooms stand, and modules and functions stay short."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lint.structure import (
    LINES_OF_A_FUNCTION,
    LINES_OF_A_MODULE,
    PURE_MODULES,
    import_findings,
    size_findings,
)
from tests.lint.tree import ROOT, SHIPPED, python_files, text_files
from tests.lint.words import word_findings


def test_no_import_breaches_a_wall() -> None:
    assert import_findings(ROOT, python_files(SHIPPED)) == []


def test_modules_and_functions_are_short() -> None:
    assert size_findings(ROOT, python_files()) == []


def test_no_forbidden_word_is_in_the_tree() -> None:
    assert word_findings(ROOT, text_files()) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("guestagent/guest/daemon.py", "from guestagent.host import model"),
        ("guestagent/guest/daemon.py", "from guestagent import host"),
        ("guestagent/guest/daemon.py", "from ..host import model"),
        ("guestagent/host/driver.py", "import guestagent.guest.model"),
        ("guestagent/host/driver.py", "from qemu.qmp import QMPClient"),
        ("guestagent/guest/stacks/networkd.py", "import pyroute2"),
        ("guestagent/host/sriov/pf.py", "import pyudev"),
        ("guestagent/guest/kernel/udev.py", "from lab import image"),
        ("guestagent/guest/plan.py", "import os"),
        ("guestagent/guest/plan.py", "def late():\n    import subprocess"),
        ("guestagent/guest/pairing.py", "from guestagent.guest.kernel import netlink"),
        ("guestagent/host/machine.py", "import asyncio"),
    ],
)
def test_a_breach_is_found(tmp_path: Path, module: str, line: str) -> None:
    path = _write(tmp_path, module, line)
    _write(tmp_path, "guestagent/host/model.py", "")
    assert len(import_findings(tmp_path, [path])) == 1


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("guestagent/guest/kernel/netlink.py", "import pyroute2"),
        ("guestagent/host/sriov/pf.py", "import pyroute2"),
        ("guestagent/host/hypervisor/qmp.py", "from qemu.qmp import QMPClient"),
        ("guestagent/guest/plan.py", "from guestagent.guest.model import Link"),
    ],
)
def test_a_door_is_no_breach(tmp_path: Path, module: str, line: str) -> None:
    assert import_findings(tmp_path, [_write(tmp_path, module, line)]) == []


def test_a_pure_module_that_was_renamed_is_noticed() -> None:
    rooms = {name.rpartition(".")[0] for name in PURE_MODULES}
    existing = {name for name in PURE_MODULES if _path_of(name).exists()}
    assert rooms == {
        "guestagent",
        "guestagent.guest",
        "guestagent.guest.doctor",
        "guestagent.guest.render",
        "guestagent.host",
        "guestagent.host.sriov",
    }
    assert existing == PURE_MODULES


def test_a_long_module_is_found(tmp_path: Path) -> None:
    path = _write(tmp_path, "long.py", "x = 1\n" * (LINES_OF_A_MODULE + 1))
    assert len(size_findings(tmp_path, [path], exceptions={})) == 1
    assert size_findings(tmp_path, [path], exceptions={"long.py": "a reason"}) == []


def test_an_exception_that_is_not_needed_is_found(tmp_path: Path) -> None:
    path = _write(tmp_path, "short.py", "x = 1\n")
    assert len(size_findings(tmp_path, [path], exceptions={"short.py": "a reason"})) == 1
    assert len(size_findings(tmp_path, [], exceptions={"gone.py": "a reason"})) == 1


def test_a_long_function_is_found(tmp_path: Path) -> None:
    path = _write(tmp_path, "module.py", "def f():\n" + "    x = 1\n" * LINES_OF_A_FUNCTION)
    assert len(size_findings(tmp_path, [path], exceptions={})) == 1


@pytest.mark.parametrize(
    "text",
    [
        "see /" + "home/somebody/notes",
        "deb http://mirror.example.org" + "/debian bookworm main",
        "# FIX" + "ME later",
    ],
)
def test_a_forbidden_word_is_found(tmp_path: Path, text: str) -> None:
    path = _write(tmp_path, "notes.md", text)
    assert len(word_findings(tmp_path, [(path, text)])) == 1


def test_the_official_mirror_is_allowed(tmp_path: Path) -> None:
    text = "deb http://deb.debian.org/debian bookworm main"
    assert word_findings(tmp_path, [(tmp_path / "notes.md", text)]) == []


def _path_of(module: str) -> Path:
    return ROOT / f"{module.replace('.', '/')}.py"


def _write(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
