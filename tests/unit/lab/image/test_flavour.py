"""Kernel arguments and units that select the network stack of a guest, and the peer's leases."""

from __future__ import annotations

import pytest

from lab.image.flavour import PLAIN, Flavour, Stack, Suite
from lab.machine.setup import NicPair
from lab.network.address_server import AddressLease, parse_leases

PAIRS = (NicPair(), NicPair(index=1))
FLAVOURS = [
    Flavour(suite=suite, stack=stack, dhcp=dhcp)
    for suite in Suite
    for stack in Stack
    for dhcp in (True, False)
]


def test_the_plain_image_has_nothing_to_keep_still_and_needs_no_server() -> None:
    assert (PLAIN.kernel_arguments, PLAIN.packages, PLAIN.wants_server) == ("", (), False)


@pytest.mark.parametrize("flavour", FLAVOURS, ids=str)
def test_one_stack_is_left_and_the_others_are_masked(flavour: Flavour) -> None:
    masked = flavour.kernel_arguments
    units = {
        Stack.NETWORKD: "systemd-networkd.service",
        Stack.CLOUD_INIT: "systemd-networkd.service",
        Stack.NETWORKMANAGER: "NetworkManager.service",
        Stack.IFUPDOWN: "networking.service",
    }
    assert flavour.stack is not None
    alive = {unit for unit in units.values() if f"systemd.mask={unit}" not in masked}
    assert alive == {units[flavour.stack]}
    assert ("cloud-init=disabled" in masked) == (flavour.stack is not Stack.CLOUD_INIT)
    assert len(masked) < 1000, "the kernel takes 2048 bytes in all"


@pytest.mark.parametrize("flavour", FLAVOURS, ids=str)
def test_static_addresses_are_in_the_files_and_others_are_not(flavour: Flavour) -> None:
    text = "".join(flavour.network_files(PAIRS).values())
    for pair in PAIRS:
        for address in pair.addresses:
            assert (address in text) == (not flavour.dhcp)


def test_leases_of_both_families_are_read() -> None:
    text = (
        "1790000000 52:54:00:5a:00:00 198.18.0.10 guest 01:52:54:00:5a:00:00\n"
        "duid 00:01:00:01:2e:00:00:00:52:54:00:00:00:01\n"
        "1790000000 5924864 2001:db8::10 guest 00:02:00:00:ab:11\n"
    )
    assert parse_leases(text) == (
        AddressLease(
            address="198.18.0.10", mac="52:54:00:5a:00:00", client="01:52:54:00:5a:00:00"
        ),
        AddressLease(address="2001:db8::10", mac=None, client="00:02:00:00:ab:11"),
    )
