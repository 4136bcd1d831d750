"""``./dev``: see lab/dev/commands.py."""

from __future__ import annotations

import sys

from lab.dev.commands import main

if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
