"""Install the files of the Debian packages into an RPM's build root, so that there is one list.

python3 packaging/rpm/install.py BUILDROOT SITE_PACKAGES
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DEBIAN_SITE = "usr/lib/python3/dist-packages"
DEBIAN_UNITS = "lib/systemd/system"
# Only Debian has ifupdown: its hooks and the drop-ins of its units are not for other systems.
OF_IFUPDOWN = ("packaging/ifupdown/", "ifup@", "ifupdown@", "networking.service.d")


def install(buildroot: Path, site: str) -> None:
    """Copy every file of ``packaging/debian/*.install`` to its directory in this distribution."""
    for listed in sorted((ROOT / "packaging" / "debian").glob("*.install")):
        for line in listed.read_text().splitlines():
            pattern, target = line.split()
            if any(mark in pattern for mark in OF_IFUPDOWN):
                continue
            if target.startswith(DEBIAN_SITE):
                target = site.lstrip("/") + target.removeprefix(DEBIAN_SITE)
            elif target == DEBIAN_UNITS:
                target = f"usr/{target}"
            directory = buildroot / target
            directory.mkdir(parents=True, exist_ok=True)
            for source in sorted(ROOT.glob(pattern)):
                _copy(source, directory / source.name)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, target, ignore=ignored, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)


if __name__ == "__main__":
    install(Path(sys.argv[1]), sys.argv[2])
