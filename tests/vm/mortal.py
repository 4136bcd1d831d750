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

from guestagent.host import cli
from guestagent.host.journal import CameTo, Entered, Journal, What


def main() -> int:
    """Run the helper with all arguments but the first two."""
    when, phase = sys.argv[1:3]
    write = Journal.write
    entered: list[str] = []

    def write_or_die(self: Journal, what: What, *, durable: bool) -> None:
        if isinstance(what, CameTo) and when == "after" and entered[-1] == phase:
            os.kill(os.getpid(), signal.SIGKILL)
        write(self, what, durable=durable)
        if isinstance(what, Entered):
            entered.append(what.state.phase)
            if when == "before" and entered[-1] == phase:
                os.kill(os.getpid(), signal.SIGKILL)

    Journal.write = write_or_die  # type: ignore[method-assign]
    return cli.main(sys.argv[3:])


if __name__ == "__main__":
    sys.exit(main())
