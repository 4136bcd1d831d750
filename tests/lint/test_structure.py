"""The walls between the rooms stand, and modules and functions stay short."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lint.structure import (
    LINES_OF_A_FUNCTION,
    LINES_OF_A_MODULE,
    PURE_ROOMS,
    circle_findings,
    floor_findings,
    import_findings,
    line_findings,
    loose_findings,
    size_findings,
)
from tests.lint.tree import ROOT, SHIPPED, python_files, text_files
from tests.lint.words import word_findings


def test_no_import_breaches_a_wall() -> None:
    assert import_findings(ROOT, python_files(SHIPPED)) == []


def test_no_room_imports_from_a_floor_above() -> None:
    assert floor_findings(ROOT, [*python_files(SHIPPED), *python_files(ROOT / "lab")]) == []


def test_no_module_imports_itself_through_others() -> None:
    assert circle_findings(ROOT, python_files()) == []


def test_each_module_has_a_room() -> None:
    assert loose_findings(ROOT) == []


def test_the_shipped_code_does_not_grow() -> None:
    assert line_findings(python_files(SHIPPED)) == []


def test_modules_and_functions_are_short() -> None:
    assert size_findings(ROOT, python_files()) == []


def test_no_forbidden_word_is_in_the_tree() -> None:
    assert word_findings(ROOT, text_files()) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("guestagent/guest/service/daemon.py", "from guestagent.host import model"),
        ("guestagent/guest/service/daemon.py", "from guestagent import host"),
        ("guestagent/guest/service/daemon.py", "from ...host import model"),
        ("guestagent/host/run/driver.py", "import guestagent.guest.core.link"),
        ("guestagent/host/run/driver.py", "from qemu.qmp import QMPClient"),
        ("guestagent/guest/kernel/netlink.py", "import pyroute2"),
        ("guestagent/host/sriov/pf.py", "import pyroute2"),
        ("guestagent/host/sriov/pf.py", "import pyudev"),
        ("guestagent/guest/kernel/udev.py", "from lab.image import build"),
        ("guestagent/guest/core/plan.py", "import os"),
        ("guestagent/guest/core/plan.py", "def late():\n    import subprocess"),
        ("guestagent/guest/core/pairing.py", "from guestagent.guest.kernel import netlink"),
        ("guestagent/host/migration/transitions.py", "import asyncio"),
    ],
)
def test_a_breach_is_found(tmp_path: Path, module: str, line: str) -> None:
    path = _write(tmp_path, module, line)
    _write(tmp_path, "guestagent/host/model.py", "")
    assert len(import_findings(tmp_path, [path])) == 1


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("guestagent/guest/kernel/udev.py", "import pyudev"),
        ("guestagent/host/sriov/netlink.py", "import pyroute2"),
        ("guestagent/host/hypervisor/qmp/client.py", "from qemu.qmp import QMPClient"),
        ("guestagent/guest/core/plan.py", "from guestagent.guest.core.link import Link"),
    ],
)
def test_a_door_is_no_breach(tmp_path: Path, module: str, line: str) -> None:
    assert import_findings(tmp_path, [_write(tmp_path, module, line)]) == []


def test_a_pure_room_that_was_renamed_is_noticed() -> None:
    assert [room for room in PURE_ROOMS if not _exists(room)] == []


def test_the_door_of_a_pure_room_may_ask_the_system(tmp_path: Path) -> None:
    door = _write(tmp_path, "guestagent/guest/doctor/gather/probes.py", "import os")
    judge = _write(tmp_path, "guestagent/guest/doctor/nics.py", "import os")
    assert import_findings(tmp_path, [door]) == []
    assert len(import_findings(tmp_path, [judge])) == 1


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("guestagent/guest/core/plan.py", "from guestagent.guest.state import config"),
        ("guestagent/guest/kernel/udev.py", "from guestagent.guest.state import config"),
        ("guestagent/guest/attic/old.py", ""),
        ("guestagent/host/terminal.py", "from guestagent.host.model import Vm"),
        ("lab/machine/guests.py", "from lab.bench import race"),
    ],
)
def test_an_import_that_goes_up_is_found(tmp_path: Path, module: str, line: str) -> None:
    assert len(floor_findings(tmp_path, [_write(tmp_path, module, line)])) == 1


def test_an_import_that_goes_down_is_none(tmp_path: Path) -> None:
    path = _write(
        tmp_path, "guestagent/guest/cli/main.py", "from guestagent.guest.core import plan"
    )
    assert floor_findings(tmp_path, [path]) == []


def test_loose_modules_are_found(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        _write(tmp_path, f"guestagent/host/{name}.py", "")
    assert len(loose_findings(tmp_path)) == 1


def test_a_circle_is_found(tmp_path: Path) -> None:
    paths = [
        _write(tmp_path, "lab/a.py", "from lab import b"),
        _write(tmp_path, "lab/b.py", "def late():\n    from lab.c import x"),
        _write(tmp_path, "lab/c.py", "import lab.a"),
        _write(tmp_path, "lab/d.py", "import lab.a"),
    ]
    assert len(circle_findings(tmp_path, paths)) == 3


def test_too_much_code_is_found(tmp_path: Path) -> None:
    path = _write(tmp_path, "long.py", "x = 1\n" * 11)
    assert len(line_findings([path], most=10)) == 1


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


def _exists(module: str) -> bool:
    path = ROOT.joinpath(*module.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def _write(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
