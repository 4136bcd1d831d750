"""Faults of a fake QEMU: in its answers, its guest and its migrations."""

from __future__ import annotations

from enum import StrEnum

HUGE_BYTES = 5 * 1024 * 1024


class Fault(StrEnum):
    """Fault of one command."""

    REFUSE = "refuse"
    SILENT = "silent"
    HANG_UP_BEFORE = "hang-up-before"  # the command is not run
    HANG_UP_AFTER = "hang-up-after"  # it is run, and its answer lost
    HANG_UP_FOR_GOOD = "hang-up-for-good"  # it is run, and the process ends
    CUT = "cut"  # the answer ends after some bytes
    GARBAGE = "garbage"
    NOT_UTF8 = "not-utf8"
    HUGE = "huge"
    DEEP = "deep"
    WRONG_TYPE = "wrong-type"
    OTHER_ID_FIRST = "other-id-first"  # answers to questions nobody asked come first


INSTEAD = {
    Fault.GARBAGE: b"HTTP/1.1 400 Bad Request\r\n",
    Fault.NOT_UTF8: b'{"return": "\xff\xfe"}\r\n',
    Fault.HUGE: b'{"return": "' + b"x" * HUGE_BYTES,
    Fault.DEEP: b'{"return":' + b"[" * 200_000 + b"\r\n",
}


class Guest(StrEnum):
    """Reaction of the guest to the unplug of a device."""

    RELEASES = "releases"
    RELEASES_FIRST = "releases-first"  # the event comes before the command's answer
    RELEASES_UNSEEN = "releases-unseen"  # and the event is lost
    RELEASES_LATE = "releases-late"  # after it was asked twice; QEMU refuses the second request
    REFUSES = "refuses"
    HANGS = "hangs"


class Ending(StrEnum):
    """How a migration ends."""

    COMPLETES = "completes"
    FAILS = "fails"
    FAILS_STOPPED = "fails-stopped"  # and the source does not run again by itself
    NEVER = "never"
    STARTS_LATE = "starts-late"  # the destination loads for some questions more
    STAYS_STOPPED = "stays-stopped"  # the destination was started with -S
