"""Packages of Debian for guests: what the agent needs, and the agent itself in a newer version."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

from lab.base.paths import BUILD
from lab.base.process import run
from lab.image.build import ensure_agent_package
from lab.image.debian import package_source
from lab.image.flavour import Suite

DIRECTORY = BUILD / "debs"
NEWER_VERSION = "999~lab"
AGENT_NEEDS = ("python3-pyudev", "python3-systemd")
"""Packages that the agent's package depends on or recommends."""


def repository(suite: Suite) -> Path:
    """Return a directory that apt can use as a source: what the agent needs beyond Python.

    It is fetched once, from the mirror that this machine's Debian comes from.
    """
    kept = DIRECTORY / "-".join((suite, *AGENT_NEEDS))
    if kept.exists():
        return kept
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DIRECTORY, prefix="tmp-") as work:
        sources = Path(work) / "sources.list"
        sources.write_text(package_source(suite))
        options = {
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "root",
            "Dir::Cache": Path(work) / "cache",
            "Dir::Etc::SourceList": sources,
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": Path(work) / "lists",
            "Dir::State::Status": "/dev/null",
        }
        for name in ("lists", "cache/archives"):
            (Path(work) / name / "partial").mkdir(parents=True)
        apt = (
            "apt-get",
            "--quiet",
            *(f"--option={key}={value}" for key, value in options.items()),
        )
        run(*apt, "update")
        found = Path(work) / "found"
        found.mkdir()
        run("env", "--chdir", found, *apt, "download", *AGENT_NEEDS)
        index = run("env", "--chdir", found, "dpkg-scanpackages", "--multiversion", ".")
        (found / "Packages").write_text(index)
        shutil.move(found, kept)
    return kept


@functools.cache
def newer_agent() -> bytes:
    """Return the agent's package with a version that is higher than every other."""
    with tempfile.TemporaryDirectory() as work:
        tree = Path(work, "tree")
        run("dpkg-deb", "--raw-extract", ensure_agent_package(), tree)
        control = tree / "DEBIAN" / "control"
        lines = control.read_text().splitlines()
        control.write_text(
            "".join(
                f"Version: {NEWER_VERSION}\n" if line.startswith("Version:") else f"{line}\n"
                for line in lines
            )
        )
        target = Path(work, "newer.deb")
        run("dpkg-deb", "--build", "--root-owner-group", tree, target)
        return target.read_bytes()
