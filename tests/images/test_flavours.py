"""Whoever owns the addresses goes on owning them: every release with every stack.

But for the flavours that the guest tier has (tests/guest/test_stacks.py).
"""

from __future__ import annotations

import pytest

from lab.image.flavour import Flavour, Stack, Suite
from lab.machine.guests import Guests
from lab.network.wires import Network
from tests.guest import test_stacks
from tests.guest.story import name_of, tell

FLAVOURS = [
    flavour
    for suite in (Suite.TRIXIE, Suite.BOOKWORM)
    for stack in Stack
    for dhcp in (True, False)
    if dhcp or stack is Stack.IFUPDOWN
    if (flavour := Flavour(suite=suite, stack=stack, dhcp=dhcp)) not in test_stacks.FLAVOURS
]


@pytest.mark.parametrize("flavour", FLAVOURS, ids=name_of)
def test_the_owner_of_the_addresses_goes_on_owning_them(
    guests: Guests, network: Network, flavour: Flavour
) -> None:
    tell(guests, network, flavour)
