"""Whoever owns the addresses goes on owning them: those flavours that differ most.

``./dev test images`` has the others.
"""

from __future__ import annotations

import pytest

from lab.image.flavour import Flavour, Stack, Suite
from lab.machine.guests import Guests
from lab.network.wires import Network
from tests.guest.story import name_of, tell

FLAVOURS = (
    Flavour(suite=Suite.TRIXIE, stack=Stack.NETWORKD, dhcp=True),
    Flavour(suite=Suite.TRIXIE, stack=Stack.NETWORKMANAGER, dhcp=True),
)


@pytest.mark.parametrize("flavour", FLAVOURS, ids=name_of)
def test_the_owner_of_the_addresses_goes_on_owning_them(
    guests: Guests, network: Network, flavour: Flavour
) -> None:
    tell(guests, network, flavour)
