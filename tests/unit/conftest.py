"""Fixtures of every unit test."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A busy machine may take a second for what takes half a millisecond: time is no verdict here.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Undo what a program's ``main`` sets up: its stderr is gone after the test."""
    logger = logging.getLogger("guestagent")
    before = (list(logger.handlers), logger.propagate, logger.level)
    yield
    logger.handlers[:], logger.propagate = before[0], before[1]
    logger.setLevel(before[2])
