"""The location of the guest is what the answers prove, and nothing more."""

from __future__ import annotations

from itertools import product

import pytest

from guestagent.host.migration.guest_location import GuestLocation, location_of
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
        (source("running"), destination("inmigrate"), GuestLocation.SOURCE),
        (source("running"), None, GuestLocation.SOURCE),
        (source("paused"), None, GuestLocation.SOURCE),
        (source("running"), SILENT, GuestLocation.SOURCE),
        # A guest that came here by a migration shows that one.
        (source("running", "completed"), destination("inmigrate"), GuestLocation.SOURCE),
        (source("paused", "completed"), destination("inmigrate"), GuestLocation.SOURCE),
        # It moves.
        (source("running", "active"), destination("inmigrate", "active"), GuestLocation.MOVING),
        (
            source("finish-migrate", "device"),
            destination("inmigrate", "active"),
            GuestLocation.MOVING,
        ),
        (source("running", "cancelling"), GONE, GuestLocation.MOVING),
        # Newer than this program (Q: qapi/migration.json (10.2)), and whatever comes after it.
        (
            source("finish-migrate", "postcopy-device"),
            destination("inmigrate"),
            GuestLocation.MOVING,
        ),
        (source("paused", "failing"), GONE, GuestLocation.MOVING),
        (source("postmigrate", "completed"), destination("paused", "new"), GuestLocation.ARRIVING),
        (
            source("postmigrate", "completed"),
            destination("inmigrate", "active"),
            GuestLocation.ARRIVING,
        ),
        (source("finish-migrate", "completed"), destination("inmigrate"), GuestLocation.ARRIVING),
        # It has arrived.
        (source("postmigrate", "completed"), destination("running"), GuestLocation.DESTINATION),
        (GONE_SOURCE, destination("running", "completed"), GuestLocation.DESTINATION),
        (
            source("postmigrate", "completed"),
            destination("paused", "completed"),
            GuestLocation.DESTINATION_STOPPED,
        ),
        # It has failed.
        (source("running", "failed"), GONE, GuestLocation.SOURCE),
        (source("running", "cancelled"), destination("inmigrate", "failed"), GuestLocation.SOURCE),
        (source("paused", "failed"), GONE, GuestLocation.SOURCE_STOPPED),
        (
            source("paused", "failed"),
            destination("inmigrate", "failed"),
            GuestLocation.SOURCE_STOPPED,
        ),
        (
            source("postmigrate", "cancelled"),
            destination("inmigrate"),
            GuestLocation.SOURCE_STOPPED,
        ),
        # It cannot be told.
        (source("paused", "failed"), SILENT, GuestLocation.UNKNOWN),
        (source("postmigrate", "completed"), GONE, GuestLocation.UNKNOWN),
        (source("postmigrate", "completed"), SILENT, GuestLocation.UNKNOWN),
        (source("postmigrate", "completed"), destination("guest-panicked"), GuestLocation.UNKNOWN),
        (SILENT_SOURCE, destination("running", "completed"), GuestLocation.UNKNOWN),
        (GONE_SOURCE, destination("inmigrate"), GuestLocation.UNKNOWN),
        (GONE_SOURCE, destination("running", "postcopy-active"), GuestLocation.UNKNOWN),
        (GONE_SOURCE, None, GuestLocation.UNKNOWN),
        (source("shutdown"), destination("inmigrate"), GuestLocation.UNKNOWN),
        (source("running"), destination("running"), GuestLocation.UNKNOWN),
    ],
)
def test_the_answers_prove_this(
    here: QemuState, there: QemuState | None, owner: GuestLocation
) -> None:
    assert location_of(here, there) is owner


def test_no_answers_at_all_could_make_a_second_guest_run() -> None:
    """Exhaustively: a stopped guest is named only where the other side cannot run it."""
    ours = [source(run, moved) for run, moved in product(RUN_STATES, MIGRATIONS)]
    others = [destination(run, moved) for run, moved in product(RUN_STATES, MIGRATIONS)]
    for here, there in product([*ours, SILENT_SOURCE, GONE_SOURCE], [*others, SILENT, GONE]):
        owner = location_of(here, there)
        if owner is GuestLocation.SOURCE_STOPPED:
            assert not there.running
            assert here.migration in {"failed", "cancelled"}
            assert there.gone or there.migration in {"failed", None}
        if owner is GuestLocation.DESTINATION_STOPPED:
            assert (here.run_state, here.migration) == ("postmigrate", "completed") or (
                here.run_state == "finish-migrate" and here.migration == "completed"
            )
        if owner is GuestLocation.DESTINATION:
            assert there.running
            assert not here.running
        if here.running and there.running:
            assert owner is GuestLocation.UNKNOWN
