"""The commands of ``guestagent``: one module for each group, named by what the group is for.

Each has ``add``, which puts the parsers of its commands in place. A command loads what it
needs when it runs: the one at boot is on everybody's way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
