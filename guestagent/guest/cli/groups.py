"""The commands of ``guestagent``: one module for each group, named by what the group is for.

Each has ``add``, which puts the parsers of its commands in place. A command imports its
modules when it runs, because the boot waits for one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
