"""Packages of this machine's Debian, from the mirror that its apt is configured with."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from guestagent.errors import SystemLacksError
from lab.base.paths import LOGS

LOG = LOGS / "apt.log"
SETUP_HINT = "install it with: sudo ./dev setup"
LOCK_TIMEOUT_S = 300
"""Another apt may be upgrading the machine; it is waited for."""

QEMU_MINIMUM = 10
"""The first version that has igb, vfio and failover as the lab uses them."""
QEMU_PACKAGES = ("qemu-system-x86", "qemu-utils")
"""Both come from one suite: each depends on the version of the other."""
BACKPORTS = Path("/etc/apt/sources.list.d/guestagent-backports.sources")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def need(packages: Iterable[str]) -> None:
    """Install the packages that are missing. On a system without dpkg nothing is checked.

    :raise SystemLacksError: something is missing and cannot be installed.
    """
    names = sorted(packages)
    if shutil.which("dpkg-query") is None:
        print(f"dev: no dpkg here, so not checked: {' '.join(names)}", flush=True)
        return
    shown = _output("dpkg-query", "-W", "-f", "${Status} ${Package}\\n", *names)
    there = set(re.findall(r"^install ok installed (\S+)$", shown, re.MULTILINE))
    missing = [name for name in names if name not in there]
    if missing:
        install(*missing)


def install(*packages: str, options: tuple[str, ...] = ()) -> None:
    """Install packages with the newest lists.

    :raise SystemLacksError: not root, no apt-get, or apt-get failed.
    """
    words = " ".join(packages)
    if os.geteuid() != 0:
        raise SystemLacksError(f"missing: {words}", hint="install them with: sudo ./dev setup")
    if shutil.which("apt-get") is None:
        raise SystemLacksError("this system has no apt-get", hint=f"install by hand: {words}")
    print(f"dev: installing {words}", flush=True)
    update_lists()
    _apt(
        *("install", "--yes", "--no-install-recommends"),
        *(f"--option=DPkg::Lock::Timeout={LOCK_TIMEOUT_S}", *options, *packages),
    )


def update_lists() -> None:
    """Fetch the newest lists of packages.

    :raise SystemLacksError: apt-get failed.
    """
    _apt("update")


def download(package: str, directory: Path) -> None:
    """Fetch the file of a package into a directory without installing it.

    :raise SystemLacksError: there is no such package, or apt-get failed.
    """
    try:
        _apt("download", package, cwd=directory)
    except SystemLacksError:
        update_lists()
        _apt("download", package, cwd=directory)


def need_qemu() -> None:
    """Install QEMU unless a recent one is there, from backports if no other suite has it.

    :raise SystemLacksError: it is missing and cannot be installed.
    """
    if _installed_qemu() >= QEMU_MINIMUM and shutil.which("qemu-img"):
        return
    if os.geteuid() != 0:
        raise SystemLacksError(f"QEMU {QEMU_MINIMUM} or later is missing", hint=SETUP_HINT)
    update_lists()
    if not _qemu_is_offered():
        _add_backports()
        update_lists()
    if _candidate_qemu() >= QEMU_MINIMUM:
        install(*QEMU_PACKAGES)
    else:
        install(*QEMU_PACKAGES, options=(f"--target-release={_codename()}-backports",))


def _installed_qemu() -> int:
    """Return the major version of the installed QEMU, 0 without one."""
    if shutil.which("qemu-system-x86_64") is None:
        return 0
    return _first_number(r"^QEMU.* version (\d+)", _output("qemu-system-x86_64", "--version"))


def _candidate_qemu() -> int:
    """Return the major version that a plain ``apt-get install`` would take, 0 for none."""
    return _first_number(
        r"^ *Candidate: (?:\d+:)?(\d+)", _output("apt-cache", "policy", QEMU_PACKAGES[0])
    )


def _qemu_is_offered() -> bool:
    """Whether any configured suite has a QEMU that is new enough."""
    offered = _output("apt-cache", "madison", QEMU_PACKAGES[0])
    versions = re.findall(r"^[^|]*\| *(?:\d+:)?(\d+)", offered, re.MULTILINE)
    return any(int(version) >= QEMU_MINIMUM for version in versions)


def _add_backports() -> None:
    """Add the backports suite of the mirror that this machine's Debian comes from.

    apt itself names that mirror, in whichever syntax its sources are written.
    """
    suite = _codename()
    targets = _output(
        *("apt-get", "indextargets", "Created-By: Packages", "Component: main"),
        *("Label: Debian", f"Release: {suite}"),
    )
    found = re.search(r"^Repo-URI: (\S+)$", targets, re.MULTILINE)
    if found is None:
        raise SystemLacksError(
            f"no Debian source is configured for {suite or 'this system'}",
            hint=f"install QEMU {QEMU_MINIMUM} or later by hand",
        )
    lines = ["Types: deb", f"URIs: {found[1]}", f"Suites: {suite}-backports", "Components: main"]
    if KEYRING.exists():
        lines.append(f"Signed-By: {KEYRING}")
    BACKPORTS.write_text("".join(f"{line}\n" for line in lines))
    print(f"dev: added {suite}-backports to the package sources, for QEMU {QEMU_MINIMUM}")


def _codename() -> str:
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "")


def _first_number(pattern: str, text: str) -> int:
    found = re.search(pattern, text, re.MULTILINE)
    return int(found[1]) if found else 0


def _output(*argv: str) -> str:
    return subprocess.run(argv, check=False, capture_output=True, text=True).stdout


def _apt(*arguments: str, cwd: Path | None = None) -> None:
    argv = ("apt-get", "--quiet", *arguments)
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with LOG.open("w") as log:
        done = subprocess.run(
            argv, check=False, cwd=cwd, env=env, stdout=log, stderr=subprocess.STDOUT
        )
    if done.returncode != 0:
        end = "\n".join(LOG.read_text(errors="replace").splitlines()[-20:])
        raise SystemLacksError(f"{' '.join(argv)} failed; {LOG} ends with:\n{end}")
