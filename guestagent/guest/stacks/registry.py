"""The network stacks that the agent knows: one line for each.

The order counts among answers of equal strength (``Strength``): a stanza of ifupdown names the
NIC, while a file of networkd may match it by a pattern. NetworkManager never ties with these two:
either its running service manages the NIC, or it takes the NICs that no other stack has.
"""

from __future__ import annotations

from pathlib import Path

from guestagent.guest.stacks.base import NetworkStack
from guestagent.guest.stacks.ifupdown.stack import Ifupdown
from guestagent.guest.stacks.networkd.stack import Networkd
from guestagent.guest.stacks.networkmanager.stack import NetworkManager
from guestagent.guest.stacks.select import Stacks


def registered(root: Path) -> tuple[NetworkStack, ...]:
    """Return the stacks of the system below ``root``, in order of precedence."""
    return (
        Ifupdown(root),
        Networkd(root),
        NetworkManager(root),
    )


def make_stacks(root: Path = Path("/")) -> Stacks:
    """Return all stacks of the system below ``root`` as one."""
    return Stacks(registered(root))
