"""Installs what commands and tiers need, and makes the virtual environment of the tools.

Uses the standard library alone: it runs before there is anything else.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import Path

from guestagent.errors import SystemLacksError
from lab.base.paths import BUILD, LOGS, ROOT
from lab.dev import apt

VENV = BUILD / "venv"
SSHD = BUILD / "sshd"
CONSTRAINTS = ROOT / "constraints.txt"

LINT_PACKAGES = ("groff-base", "rpm", "shellcheck", "systemd")
PACKAGE_PACKAGES = (
    *("debhelper", "dh-python", "dpkg-dev", "lintian", "man-db", "python3-all", "rpm"),
)
CHROOT_PACKAGES = ("ca-certificates", "debian-archive-keyring", "mmdebstrap", "util-linux")
LAB_PACKAGES = (
    *PACKAGE_PACKAGES,
    *CHROOT_PACKAGES,
    # The program alone; dnsmasq would start a service.
    "dnsmasq-base",
    *("e2fsprogs", "iproute2", "iputils-ping", "socat", "zstd"),
    # sshd is linked with these, besides what the client brings.
    *("libaudit1", "libpam0g", "libwrap0", "openssh-client"),
)


class Need(Enum):
    """A set of programs outside Python."""

    LINT = auto()
    PACKAGE = auto()
    CHROOT = auto()
    """To make a chroot of another Debian release."""
    LAB = auto()
    """To make guest images and run guests."""


def prepare(needs: Collection[Need]) -> None:
    """Install the missing programs of ``needs``, and make or update the virtual environment.

    :raise SystemLacksError: something is missing and cannot be installed; the text says what.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    with _locked():
        if importlib.util.find_spec("ensurepip") is None:
            apt.need(["python3-venv"])
        for need in Need:
            if need in needs:
                _PROVIDERS[need]()
        _need_venv()


@contextmanager
def _locked() -> Iterator[None]:
    """Let one process install at a time."""
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _need_lab() -> None:
    apt.need(LAB_PACKAGES)
    apt.need_qemu()
    _need_sshd()


_PROVIDERS: dict[Need, Callable[[], None]] = {
    Need.LINT: lambda: apt.need(LINT_PACKAGES),
    Need.PACKAGE: lambda: apt.need(PACKAGE_PACKAGES),
    Need.CHROOT: lambda: apt.need(CHROOT_PACKAGES),
    Need.LAB: _need_lab,
}


def _need_venv() -> None:
    """Make the virtual environment unless it is that of these tools, this Python and this place.

    Its stamp has two lines: the path of the checkout, and a hash of the requirements.
    """
    inputs = [path.read_bytes() for path in (ROOT / "pyproject.toml", CONSTRAINTS)]
    digest = hashlib.sha256(b"\n".join([*inputs, sys.version.encode()])).hexdigest()
    stamp = VENV / "stamp"
    wanted = f"{ROOT}\n{digest}\n"
    before = stamp.read_text() if stamp.exists() else ""
    if before == wanted:
        return
    print(f"dev: installing the Python tools into {VENV.relative_to(ROOT)}", flush=True)
    if before.partition("\n")[0] != str(ROOT):
        shutil.rmtree(VENV, ignore_errors=True)  # a virtual environment does not survive a move
    _logged(sys.executable, "-m", "venv", VENV)
    _logged(
        *(VENV / "bin" / "python", "-m", "pip", "install", "--quiet"),
        *("--disable-pip-version-check", "--constraint", CONSTRAINTS),
        *("--editable", f"{ROOT}[dev]"),
    )
    stamp.write_text(wanted)


def _need_sshd() -> None:
    """Unpack sshd: its package, installed, would open a port of this machine."""
    if (SSHD / "usr" / "sbin" / "sshd").exists():
        return
    print(f"dev: unpacking openssh-server into {SSHD.relative_to(ROOT)}", flush=True)
    making = SSHD.with_suffix(".tmp")
    shutil.rmtree(making, ignore_errors=True)
    package = making / "package"
    package.mkdir(parents=True)
    apt.download("openssh-server", package)
    (archive,) = package.glob("openssh-server_*.deb")
    _logged("dpkg-deb", "--extract", archive, making)
    shutil.rmtree(SSHD, ignore_errors=True)
    making.rename(SSHD)


def _logged(*argv: str | Path) -> None:
    """Run a program, and keep what it prints in a log.

    :raise SystemLacksError: it failed; the text has the end of the log.
    """
    path = LOGS / "prepare.log"
    with path.open("w") as log:
        done = subprocess.run(argv, check=False, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        end = "\n".join(path.read_text(errors="replace").splitlines()[-20:])
        raise SystemLacksError(f"{Path(argv[0]).name} failed; {path} ends with:\n{end}")
