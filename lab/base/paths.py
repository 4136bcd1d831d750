"""Where the lab keeps things: all under ``build/``."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "lab"
BUILD = ROOT / "build"
IMAGES = BUILD / "image"
LOGS = BUILD / "logs"
PACKAGES = BUILD / "packages"
