"""Linters are tests: each passes on the tree and fails on a sample that violates it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lint.tree import ROOT, python_files, shell_scripts

CACHE = ROOT / "build" / "cache"
UNITS = sorted((ROOT / "packaging" / "systemd").glob("*.service"))
# What ifupdown starts there has the rights that it has in networking.service.
OWN_UNITS = tuple(unit for unit in UNITS if "ifupdown" not in unit.name)
# systemd-analyze(1), security, times ten: a unit is no more exposed than systemd-networkd itself.
EXPOSURE_LIMIT = 29
# Root with the network in its hands and packet sockets make out all of it.
EXPOSURE_LIMITS = {"guestagent.service": 17, "guestagent-early.service": 17}


@dataclass(frozen=True, slots=True, kw_only=True)
class Linter:
    """A linter, what it looks at, and a sample in which it must find something."""

    command: tuple[str, ...]
    targets: tuple[Path, ...]
    sample_name: str = "sample.py"
    sample: str

    def run(self, *targets: Path) -> subprocess.CompletedProcess[str]:
        """Run the linter on some files; stdout has everything it said."""
        program, *options = self.command
        return subprocess.run(
            [_program(program), *options, *map(str, targets)],
            cwd=ROOT,
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )


PYPROJECT = f"--config={ROOT / 'pyproject.toml'}"
RUFF_CACHE = f"--cache-dir={CACHE / 'ruff'}"
LINTERS = {
    "ruff check": Linter(
        command=("ruff", "check", "--quiet", PYPROJECT, RUFF_CACHE),
        targets=(ROOT,),
        sample='"""A module."""\n\n\ndef undocumented() -> None:\n    return\n',
    ),
    "ruff format": Linter(
        command=("ruff", "format", "--check", "--quiet", PYPROJECT, RUFF_CACHE),
        targets=(ROOT,),
        sample="x = 'single quotes'\n",
    ),
    "mypy": Linter(
        command=("mypy", f"--config-file={ROOT / 'pyproject.toml'}", f"--cache-dir={CACHE}/mypy"),
        targets=(),
        sample="def untyped(x):\n    return x\n",
    ),
    "codespell": Linter(
        command=("codespell", f"--toml={ROOT / 'pyproject.toml'}", "--skip=build,.git,*_cache"),
        targets=(ROOT,),
        sample_name="sample.md",
        sample="this has occ" + "ured before\n",
    ),
    "shellcheck": Linter(
        # SC1091: what a script sources is installed elsewhere.
        command=("shellcheck", "--exclude=SC1091"),
        targets=tuple(shell_scripts()),
        sample_name="sample.sh",
        sample="#!/bin/sh\necho $1\n",
    ),
}


@pytest.mark.parametrize("name", LINTERS)
def test_the_tree_is_clean(name: str) -> None:
    linter = LINTERS[name]
    done = linter.run(*linter.targets)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", LINTERS)
def test_a_violation_is_found(name: str, tmp_path: Path) -> None:
    linter = LINTERS[name]
    sample = tmp_path / linter.sample_name
    sample.write_text(linter.sample)
    done = linter.run(sample)
    assert done.returncode != 0
    assert done.stdout or name == "ruff format"


def test_the_linters_see_the_whole_tree() -> None:
    modules = {str(path.relative_to(ROOT)) for path in python_files()}
    scripts = {str(path.relative_to(ROOT)) for path in shell_scripts()}
    assert {"guestagent/errors.py", "packaging/build.py", "tests/lint/test_linters.py"} <= modules
    assert {"udev/guestagent-port", "packaging/debian/guestagent.prerm", ".ci/run"} <= scripts
    assert not any(name.startswith("build/") for name in modules | scripts)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_valid(unit: Path, tmp_path: Path) -> None:
    assert _verify(tmp_path, unit.name, unit.read_text()) == ""


@pytest.mark.parametrize("line", ["NoSuchKey=1", "RestrictAddressFamilies=AF_NONE"])
def test_a_wrong_line_in_a_unit_is_found(tmp_path: Path, line: str) -> None:
    text = UNITS[0].read_text().replace("[Service]\n", f"[Service]\n{line}\n")
    assert _verify(tmp_path, UNITS[0].name, text) != ""


@pytest.mark.parametrize("unit", OWN_UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_no_more_exposed_than_it_must_be(unit: Path) -> None:
    limit = EXPOSURE_LIMITS.get(unit.name, EXPOSURE_LIMIT)
    done = _analyze("security", "--offline=true", f"--threshold={limit}", str(unit))
    assert done.returncode == 0, done.stdout


def test_an_exposed_unit_is_found(tmp_path: Path) -> None:
    unit = tmp_path / "exposed.service"
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    done = _analyze("security", "--offline=true", f"--threshold={EXPOSURE_LIMIT}", str(unit))
    assert done.returncode != 0


def _verify(directory: Path, name: str, text: str) -> str:
    """Return the findings of systemd-analyze on a unit; its programs need not be installed."""
    lines = [
        f"{line.partition('=')[0]}=/bin/true" if line.startswith("Exec") else line
        for line in text.splitlines()
    ]
    unit = directory / name
    unit.write_text("\n".join(lines))
    return _analyze("verify", "--man=no", "--recursive-errors=no", str(unit)).stdout


def _analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [_program("systemd-analyze"), *arguments],
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def _program(name: str) -> str:
    """Return the path of a linter: beside this Python, or on PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is missing; ./dev installs it", pytrace=False)
    return found
