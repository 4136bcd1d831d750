"""The newest pyroute2, as a tree of modules to check the host helper with."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from guestagent.errors import SystemLacksError


def installed() -> Path:
    """Return the directory of the pyroute2 that the tests' own Python has: the newest."""
    spec = importlib.util.find_spec("pyroute2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemLacksError("pyroute2 is not installed", hint="run: ./dev setup")
    return Path(spec.submodule_search_locations[0])
