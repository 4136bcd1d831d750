"""Every error this software raises, split by who must act.

::

    GuestAgentError
    ├── ConfigurationError   the operator corrects a file or an option
    ├── SystemLacksError     the system lacks something: a module, a right, a program
    ├── PeerError            the other side refused, or answered outside the protocol
    ├── ConflictError        an object is not in the state the request needs
    ├── BusyError            nothing is wrong; try again later (exit code 75)
    ├── DeadlineError        nothing came back in time; the object was queried and is unchanged
    ├── UnknownOutcomeError  a request may or may not have run; query before acting
    └── InternalError        a bug of ours

An error either is raised or is logged, never both. Its text names the object
and what came back; ``hint`` says what to do next.
"""

from __future__ import annotations

from typing import ClassVar

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h


class GuestAgentError(Exception):
    """Base of all errors. ``hint`` is one sentence that says what to do, or None."""

    exit_code: ClassVar[int] = EXIT_FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class ConfigurationError(GuestAgentError):
    """A configuration file, a key or an option is wrong; nothing was changed."""

    exit_code = EXIT_USAGE


class SystemLacksError(GuestAgentError):
    """The system lacks what the request needs; nothing was changed."""


class PeerError(GuestAgentError):
    """The other side (QEMU, the guest, a service) refused or broke the protocol."""


class ConflictError(GuestAgentError):
    """An object is held by somebody else or is not in the state the request needs."""


class BusyError(GuestAgentError):
    """The request can succeed later without anybody repairing anything."""

    exit_code = EXIT_TRY_AGAIN


class DeadlineError(GuestAgentError):
    """An awaited state did not come in time."""


class UnknownOutcomeError(GuestAgentError):
    """A request was sent and its answer was lost: it may have run. Query, never guess."""


class InternalError(GuestAgentError):
    """A state that the code holds to be impossible: a bug to report."""


def shown(value: object) -> str:
    """Return ``repr`` of a value for a message, or a description of a number that is too long.

    A hexadecimal number is read at any length (``sys.set_int_max_str_digits`` of Python).
    """
    try:
        return repr(value)
    except ValueError:
        return "a number of thousands of digits"
