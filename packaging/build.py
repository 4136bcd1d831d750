"""Build the published files: two Debian packages, two RPMs, a wheel and a source archive.

::

    build/venv/bin/python packaging/build.py [--out build/packages] [--debian-only]

Nothing is built in the checkout: the inputs are copied under the output
directory and built there. The same inputs give the same .deb byte for byte
(dates come from packaging/debian/changelog), because the lab caches its guest
image by the hash of the agent's package. If the inputs are unchanged, nothing
is built.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from guestagent.errors import GuestAgentError, SystemLacksError

ROOT = Path(__file__).resolve().parent.parent

DEBIAN_INPUTS = ("guestagent", "packaging", "udev")
PYTHON_INPUTS = ("guestagent", "pyproject.toml", "README.md", "LICENSE")

RPM_INPUTS = (*DEBIAN_INPUTS, "LICENSE")

DEBIAN_TOOLS = {
    "dpkg-buildpackage": "dpkg-dev",
    "dh": "debhelper",
    "dh_python3": "dh-python",
}

# legacy.py is under GPL-2 only, unlike the other modules; the other two files are programs.
NOT_VENDORED = ("legacy.py", "qmp_shell.py", "qmp_tui.py")


def build_packages(out: Path) -> list[Path]:
    """Build everything into ``out`` and return the files.

    A failed build keeps the files of the previous build, and leaves its log beside them.

    :raise SystemLacksError: a build tool is missing, or a build failed.
    """
    return build_debian(out) + build_rpm(out) + build_python(out)


def build_debian(out: Path) -> list[Path]:
    """Build ``guestagent_*_all.deb`` and ``guestagent-host_*_all.deb`` into ``out``.

    :raise SystemLacksError: see ``build_packages``.
    """
    for tool, package in DEBIAN_TOOLS.items():
        if shutil.which(tool) is None:
            raise SystemLacksError(f"{tool} is missing", hint=f"apt-get install {package}")
    with _locked(out):
        work = out / ".work" / "debian"
        tree = _copy(DEBIAN_INPUTS, work / "tree")
        digest = _digest(tree)
        if kept := _kept(out, "debian", digest):
            return kept
        shutil.copytree(tree / "packaging" / "debian", tree / "debian")
        _vendor(tree)
        # The tools were checked above; Debian's own check also requires a C compiler.
        build = ["dpkg-buildpackage", "--build=binary", "--no-sign", "--no-check-builddeps"]
        _run(build, cwd=tree)
        return _publish(out, "debian", digest, sorted(work.glob("*.deb")))


def build_python(out: Path) -> list[Path]:
    """Build the wheel and the source archive into ``out``.

    :raise SystemLacksError: see ``build_packages``.
    """
    with _locked(out):
        work = out / ".work" / "python"
        tree = _copy(PYTHON_INPUTS, work / "tree")
        digest = _digest(tree)
        if kept := _kept(out, "python", digest):
            return kept
        _run([sys.executable, "-m", "build", f"--outdir={work / 'dist'}", "."], cwd=tree)
        return _publish(out, "python", digest, sorted((work / "dist").iterdir()))


def build_rpm(out: Path) -> list[Path]:
    """Build ``guestagent-*.noarch.rpm`` and ``guestagent-host-*.noarch.rpm`` into ``out``.

    Scripts of macros that are missing, as on Debian, are left out.

    :raise SystemLacksError: see ``build_packages``.
    """
    if shutil.which("rpmbuild") is None:
        raise SystemLacksError("rpmbuild is missing", hint="apt-get install rpm")
    with _locked(out):
        work = out / ".work" / "rpm"
        tree = _copy(RPM_INPUTS, work / "tree")
        digest = _digest(tree)
        if kept := _kept(out, "rpm", digest):
            return kept
        _vendor(tree)
        build = ["rpmbuild", "-bb", "--build-in-place", "--nodeps", f"--define=_topdir {work}"]
        _run([*build, "packaging/rpm/guestagent.spec"], cwd=tree)
        return _publish(out, "rpm", digest, sorted((work / "RPMS").glob("*/*.rpm")))


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Hold the lock of ``out``, so that one build at a time uses it."""
    (out / ".work").mkdir(parents=True, exist_ok=True)
    with (out / ".work" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _copy(inputs: tuple[str, ...], tree: Path) -> Path:
    """Copy ``inputs`` into a new directory ``tree``.

    The copies have the time of the copy, and dpkg-deb lowers each time that is later than
    that of the changelog to it. All files of a package therefore have the changelog's time.
    """
    shutil.rmtree(tree.parent, ignore_errors=True)
    tree.mkdir(parents=True)
    for name in inputs:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", ".*")
            shutil.copytree(source, tree / name, ignore=ignored, copy_function=shutil.copy)
        else:
            shutil.copy(source, tree / name)
    return tree


def _digest(tree: Path) -> str:
    """Return a hash over the paths, the executable bits and the contents of all files."""
    total = hashlib.sha256()
    for file in sorted(tree.rglob("*")):
        if file.is_file():
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            total.update(
                f"{file.relative_to(tree)} {os.access(file, os.X_OK)} {content}\n".encode()
            )
    return total.hexdigest()


def _kept(out: Path, kind: str, digest: str) -> list[Path]:
    """Return the files of the previous build if it had the same inputs, else none."""
    last_digest, files = _last_build(out, kind)
    return files if digest == last_digest and all(file.exists() for file in files) else []


def _publish(out: Path, kind: str, digest: str, built: list[Path]) -> list[Path]:
    """Move ``built`` into ``out``, in place of the files of the previous build of this kind."""
    for file in _last_build(out, kind)[1]:
        file.unlink(missing_ok=True)
    files = [file.replace(out / file.name) for file in built]
    _stamp(out, kind).write_text("\n".join([digest, *(file.name for file in files)]))
    return files


def _last_build(out: Path, kind: str) -> tuple[str, list[Path]]:
    stamp = _stamp(out, kind)
    digest, *names = stamp.read_text().splitlines() if stamp.exists() else [""]
    return digest, [out / name for name in names]


def _stamp(out: Path, kind: str) -> Path:
    return out / ".work" / f"{kind}.stamp"


def _vendor(tree: Path) -> None:
    """Download the library that the host package contains, and check its pinned hash."""
    target = tree / "vendor"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    checks = ["--require-hashes", "--only-binary=:all:", "--no-deps", "--no-compile"]
    _run([*pip, *checks, f"--target={target}", "--requirement=packaging/vendor.txt"], cwd=tree)
    for name in NOT_VENDORED:
        (target / "qemu" / "qmp" / name).unlink()


def _run(argv: list[str], *, cwd: Path) -> None:
    """Run a build step with its output in a log beside the tree."""
    log = cwd.parent / "build.log"
    # One thread, because the output of xz depends on the number of threads.
    env = os.environ | {"LC_ALL": "C.UTF-8", "DPKG_DEB_THREADS_MAX": "1"}
    with log.open("ab") as output:
        done = subprocess.run(
            argv, cwd=cwd, env=env, umask=0o022, check=False, stdout=output, stderr=output
        )
    if done.returncode != 0:
        raise SystemLacksError(
            f"{argv[0]} failed with exit code {done.returncode}",
            hint=f"the reason is at the end of {log}",
        )


def main() -> int:
    """Build and print the paths of the files, one a line."""
    parser = argparse.ArgumentParser(description="Build the packages.")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "packages")
    parser.add_argument("--debian-only", action="store_true", help="build the .deb files only")
    arguments = parser.parse_args()
    out: Path = arguments.out.resolve()
    try:
        files = build_debian(out) if arguments.debian_only else build_packages(out)
    except GuestAgentError as error:
        print(f"package: {error}; {error.hint}", file=sys.stderr)
        return error.exit_code
    for file in files:
        print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
