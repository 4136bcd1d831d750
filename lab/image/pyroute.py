"""Versions of pyroute2 to check the host helper with, as trees of modules.

::

    build/cache/pyroute2-0.7.2/    what pip installs for it, fetched once
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from guestagent.errors import SystemLacksError
from lab.base.paths import BUILD
from lab.base.process import run


def installed() -> Path:
    """Return the directory of the pyroute2 that the tests' own Python has: the newest."""
    spec = importlib.util.find_spec("pyroute2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemLacksError("pyroute2 is not installed", hint="run: ./dev setup")
    return Path(spec.submodule_search_locations[0])


def fetched(version: str) -> Path:
    """Return the directory of one version, fetched unless it is cached.

    :raise SystemLacksError: pip failed.
    """
    target = BUILD / "cache" / f"pyroute2-{version}"
    if not target.exists():
        making = target.with_name(f"{target.name}.tmp")
        run(
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-compile", "--upgrade", "--target", making),
            f"pyroute2=={version}",
        )
        making.rename(target)
    return target / "pyroute2"
