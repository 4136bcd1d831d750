"""Trees of Debian packages, from the mirror that this machine's own Debian comes from.

The settings by which this machine reaches its mirror (proxies, certificates, address) are used and
stay out of the trees.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from guestagent.errors import SystemLacksError
from lab.base.process import run

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
"""For programs that run inside such a tree."""

# The Release file of an unreleased suite may have expired on the mirror.
_UNRELEASED = {"forky"}


def package_source(suite: str) -> str:
    """Return a source line for the suite, on the mirror that this machine's Debian comes from.

    :raise SystemLacksError: no source of Debian is configured.
    """
    targets = run("apt-get", "indextargets", "Created-By: Packages", "Label: Debian")
    for line in targets.splitlines():
        name, _, value = line.partition(": ")
        if name == "Repo-URI":
            return f"deb {value} {suite} main\n"
    raise SystemLacksError(
        "no package source of Debian is configured", hint="add one and run apt-get update"
    )


def bootstrap(
    suite: str, packages: Sequence[str], target: Path, *, options: Sequence[str] = ()
) -> None:
    """Make a minimal Debian with ``packages`` at ``target``: a tar archive or a directory.

    ``options`` are more of mmdebstrap's. A failure may leave a part of a directory behind.

    :raise SystemLacksError: not root, or mmdebstrap is missing or failed.
    """
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="tmp-") as work:
        settings = Path(work) / "apt.conf"
        settings.write_text(run("apt-config", "dump", "--no-empty", "Acquire"))
        expired = ['--aptopt=Acquire::Check-Valid-Until "false"'] if suite in _UNRELEASED else []
        run(
            *("mmdebstrap", "--variant=minbase", "--mode=root", f"--aptopt={settings}", *expired),
            f"--include={','.join(packages)}",
            *options,
            '--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap"',
            '--customize-hook=rm -f "$1/etc/apt/sources.list"',
            *(suite, target, "-"),
            stdin=package_source(suite),
            # The initramfs of an image is made once, with the settings of lab/rootfs.
            env=os.environ | ENVIRONMENT | {"INITRD": "No"},
        )
