"""The location of the guest is what the answers prove, and nothing more."""

from __future__ import annotations

from itertools import product

import pytest

from guestagent.host.migration.guest_location import Owner, location_of
from guestagent.host.model import End, QemuState

RUN_STATES = (
    "running",
    "paused",
    "postmigrate",
    "inmigrate",
    "prelaunch",
    "finish-migrate",
    "shutdown",
    "guest-panicked",
)
MIGRATIONS = (
    None,
    "setup",
    "active",
    "cancelling",
    "completed",
    "failed",
    "cancelled",
    "device",
    "what a later QEMU has",
)


def at(end: End, run_state: str, migration: str | None = None) -> QemuState:
    return QemuState(end=end, run_state=run_state, migration=migration)


def source(run_state: str, migration: str | None = None) -> QemuState:
    return at(End.SOURCE, run_state, migration)


def destination(run_state: str, migration: str | None = None) -> QemuState:
    return at(End.DESTINATION, run_state, migration)


SILENT_SOURCE = QemuState(end=End.SOURCE, unreachable="no answer")
GONE_SOURCE = QemuState(end=End.SOURCE, unreachable="refused", gone=True)
SILENT = QemuState(end=End.DESTINATION, unreachable="no answer")
GONE = QemuState(end=End.DESTINATION, unreachable="refused", gone=True)


@pytest.mark.parametrize(
    ("here", "there", "owner"),
    [
        # Nothing has happened.
        (source("running"), destination("inmigrate"), Owner.SOURCE),
        (source("running"), None, Owner.SOURCE),
        (source("paused"), None, Owner.SOURCE),
        (source("running"), SILENT, Owner.SOURCE),
        # A guest that came here by a migration shows that one.
        (source("running", "completed"), destination("inmigrate"), Owner.SOURCE),
        (source("paused", "completed"), destination("inmigrate"), Owner.SOURCE),
        # It moves.
        (source("running", "active"), destination("inmigrate", "active"), Owner.MOVING),
        (source("finish-migrate", "device"), destination("inmigrate", "active"), Owner.MOVING),
        (source("running", "cancelling"), GONE, Owner.MOVING),
        # Newer than this program (Q: qapi/migration.json (10.2)), and whatever comes after it.
        (source("finish-migrate", "postcopy-device"), destination("inmigrate"), Owner.MOVING),
        (source("paused", "failing"), GONE, Owner.MOVING),
        (source("postmigrate", "completed"), destination("paused", "new"), Owner.ARRIVING),
        (source("postmigrate", "completed"), destination("inmigrate", "active"), Owner.ARRIVING),
        (source("finish-migrate", "completed"), destination("inmigrate"), Owner.ARRIVING),
        # It has arrived.
        (source("postmigrate", "completed"), destination("running"), Owner.DESTINATION),
        (GONE_SOURCE, destination("running", "completed"), Owner.DESTINATION),
        (
            source("postmigrate", "completed"),
            destination("paused", "completed"),
            Owner.DESTINATION_STOPPED,
        ),
        # It has failed.
        (source("running", "failed"), GONE, Owner.SOURCE),
        (source("running", "cancelled"), destination("inmigrate", "failed"), Owner.SOURCE),
        (source("paused", "failed"), GONE, Owner.SOURCE_STOPPED),
        (source("paused", "failed"), destination("inmigrate", "failed"), Owner.SOURCE_STOPPED),
        (source("postmigrate", "cancelled"), destination("inmigrate"), Owner.SOURCE_STOPPED),
        # It cannot be told.
        (source("paused", "failed"), SILENT, Owner.UNKNOWN),
        (source("postmigrate", "completed"), GONE, Owner.UNKNOWN),
        (source("postmigrate", "completed"), SILENT, Owner.UNKNOWN),
        (source("postmigrate", "completed"), destination("guest-panicked"), Owner.UNKNOWN),
        (SILENT_SOURCE, destination("running", "completed"), Owner.UNKNOWN),
        (GONE_SOURCE, destination("inmigrate"), Owner.UNKNOWN),
        (GONE_SOURCE, destination("running", "postcopy-active"), Owner.UNKNOWN),
        (GONE_SOURCE, None, Owner.UNKNOWN),
        (source("shutdown"), destination("inmigrate"), Owner.UNKNOWN),
        (source("running"), destination("running"), Owner.UNKNOWN),
    ],
)
def test_the_answers_prove_this(here: QemuState, there: QemuState | None, owner: Owner) -> None:
    assert location_of(here, there) is owner


def test_no_answers_at_all_could_make_a_second_guest_run() -> None:
    """Exhaustively: a stopped guest is named only where the other side cannot run it."""
    ours = [source(run, moved) for run, moved in product(RUN_STATES, MIGRATIONS)]
    others = [destination(run, moved) for run, moved in product(RUN_STATES, MIGRATIONS)]
    for here, there in product([*ours, SILENT_SOURCE, GONE_SOURCE], [*others, SILENT, GONE]):
        owner = location_of(here, there)
        if owner is Owner.SOURCE_STOPPED:
            assert not there.running
            assert here.migration in {"failed", "cancelled"}
            assert there.gone or there.migration in {"failed", None}
        if owner is Owner.DESTINATION_STOPPED:
            assert (here.run_state, here.migration) == ("postmigrate", "completed") or (
                here.run_state == "finish-migrate" and here.migration == "completed"
            )
        if owner is Owner.DESTINATION:
            assert there.running
            assert not here.running
        if here.running and there.running:
            assert owner is Owner.UNKNOWN
