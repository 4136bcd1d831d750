"""The host helper, in a process that is killed at one point of its journal.

    python -m tests.vm.mortal before|after PHASE ARGUMENT...

``before``: the phase is on the disk and its effect has not begun. ``after``: the
effect has been achieved and nothing says so yet. SIGKILL, as from outside: no
handler runs, nothing is flushed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from guestagent.host.cli import main as cli
from guestagent.host.store.journal import EffectEnded, Entered, Entry, Journal


def die() -> None:
    """End this process as SIGKILL from outside does."""
    os.kill(os.getpid(), signal.SIGKILL)


def at_points(reached: Callable[[str, str], None]) -> None:
    """Have ``reached`` called with ``before`` or ``after`` and the phase, at every point."""
    write = Journal.write
    entered: list[str] = []

    def write_and_tell(self: Journal, what: Entry, *, durable: bool) -> None:
        if isinstance(what, EffectEnded):
            reached("after", entered[-1])
        write(self, what, durable=durable)
        if isinstance(what, Entered):
            entered.append(what.state.phase)
            reached("before", entered[-1])

    Journal.write = write_and_tell  # type: ignore[method-assign]


def main() -> int:
    """Run the helper with all arguments but the first two."""
    deadly = tuple(sys.argv[1:3])
    at_points(lambda when, phase: die() if (when, phase) == deadly else None)
    return cli.main(sys.argv[3:])


if __name__ == "__main__":
    sys.exit(main())
