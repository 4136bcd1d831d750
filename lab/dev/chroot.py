"""A chroot of another Debian release, for the tests that need no guest on that release's Python.

::

    build/chroot/trixie/            the tree of packages; made once (about a minute)
        wheels/  venv/              the project's tools
        tree/                       a copy of this checkout, laid anew for each run

Wheels are fetched by this machine's pip, as it is configured. Nothing inside the chroot has a
network but the loopback interface.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from guestagent.errors import SystemLacksError
from lab.base.paths import BUILD, ROOT
from lab.base.process import run
from lab.dev.prepare import CONSTRAINTS, LINT_PACKAGES
from lab.image.debian import ENVIRONMENT, bootstrap

DIRECTORY = BUILD / "chroot"
PACKAGES = ("iproute2", "python3", "python3-venv", *LINT_PACKAGES)
TREE = "tree"
_NOT_COPIED = {".git", "build", "__pycache__"}


class Chroot:
    """The chroot of one release, made or brought up to date.

    :raise SystemLacksError: not root, or a tool is missing or failed.
    """

    def __init__(self, suite: str) -> None:
        self._suite = suite
        self.root = DIRECTORY / suite
        self._ensure_packages()
        self._ensure_venv()

    def copy_tree(self) -> Path:
        """Copy the current sources into the chroot; return their path outside of it."""
        tree = self.root / TREE
        shutil.rmtree(tree, ignore_errors=True)
        shutil.copytree(ROOT, tree, symlinks=True, ignore=lambda _, names: _NOT_COPIED & {*names})
        return tree

    def run_python(self, arguments: Sequence[str]) -> int:
        """Run the virtual environment's Python in the copied tree; return its exit code."""
        command = f"cd /{TREE} && exec /venv/bin/python {shlex.join(arguments)}"
        return subprocess.run(self._argv(command), check=False, env=ENVIRONMENT).returncode

    def _ensure_packages(self) -> None:
        stamp = self.root / "stamp"
        wanted = " ".join(PACKAGES)
        if stamp.exists() and stamp.read_text() == wanted:
            return
        print(f"chroot: making Debian {self._suite}: about a minute", flush=True)
        shutil.rmtree(self.root, ignore_errors=True)
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        bootstrap(self._suite, PACKAGES, self.root)
        self._remove_devices()
        stamp.write_text(wanted)

    def _remove_devices(self) -> None:
        """Empty /dev: a run mounts this machine's there, and a copy would change owner."""
        devices = self.root / "dev"
        if devices.is_mount() or (devices / "shm").is_mount():
            raise SystemLacksError(f"something is mounted below {devices}", hint="unmount it")
        shutil.rmtree(devices)
        devices.mkdir()

    def _ensure_venv(self) -> None:
        version = run(
            *self._argv("python3 -c 'import sys; print(*sys.version_info[:2], sep=\".\")'")
        )
        inputs = [path.read_bytes() for path in (ROOT / "pyproject.toml", CONSTRAINTS)]
        digest = hashlib.sha256(b"\n".join([*inputs, version.encode()])).hexdigest()
        stamp = self.root / "venv" / "stamp"
        if stamp.exists() and stamp.read_text() == digest:
            return
        print(f"chroot: installing the Python tools for Python {version.strip()}", flush=True)
        wheels = self.root / "wheels"
        for stale in (wheels, self.root / "venv"):
            shutil.rmtree(stale, ignore_errors=True)
        names = _requirements()
        run(
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--only-binary=:all:", f"--python-version={version.strip()}"),
            *(f"--dest={wheels}", f"--constraint={CONSTRAINTS}", *names),
        )
        run(*self._argv("python3 -m venv /venv"))
        pip = "/venv/bin/python -m pip install --quiet --no-index --find-links=/wheels"
        run(*self._argv(f"{pip} {shlex.join(names)}"))
        # As an editable installation would: the checkout is importable from everywhere.
        (packages,) = (self.root / "venv" / "lib").glob("python3.*/site-packages")
        (packages / "tree.pth").write_text(f"/{TREE}\n")
        stamp.write_text(digest)

    def _argv(self, command: str) -> list[str]:
        """Return arguments that run a command in the chroot, with its own mounts and network."""
        devices = f"mount --rbind /dev {shlex.quote(str(self.root / 'dev'))}"
        inside = f"ip link set lo up && {command}"
        chroot = f"exec chroot {shlex.quote(str(self.root))} sh -c {shlex.quote(inside)}"
        return [
            *("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"),
            *(f"--mount-proc={self.root}/proc", "sh", "-c", f"{devices} && {chroot}"),
        ]


def _requirements() -> list[str]:
    """Return the requirements of the project and of its tools."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["dev"]]
