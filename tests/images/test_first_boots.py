"""First boots under cloud-init; the guest tier has the one of Debian 13 with both NICs."""

from __future__ import annotations

from lab.image.flavour import Suite
from lab.machine.guests import Guests
from lab.machine.setup import NicPair
from tests.guest.first_boot import (
    BOOT_S,
    PAIR,
    assert_cloud_init_did_its_work,
    hidden,
    setup,
    tell,
)
from tests.guest.seen import wait_converged, wait_on_standby, wait_on_vf


def test_a_first_boot_with_both_nics_applies_its_user_data(guests: Guests) -> None:
    tell(Suite.BOOKWORM, guests)


def test_a_first_boot_without_the_vf_and_boots_with_it_and_without(guests: Guests) -> None:
    guest = guests.boot(setup(Suite.TRIXIE, NicPair()))
    guest.wait_ready(timeout_s=BOOT_S)
    assert_cloud_init_did_its_work(guest)
    assert not hidden(guest), "there was none"
    guest.plug_vf(PAIR)
    first = wait_on_vf(guest, PAIR)
    wait_converged(guest)

    guest.reboot()
    assert not hidden(guest), "the instance is known"
    assert wait_on_vf(guest, PAIR).name == first.name
    assert_cloud_init_did_its_work(guest)

    guest.unplug_vf(PAIR)
    wait_on_standby(guest, PAIR)
    guest.reboot()
    assert wait_on_standby(guest, PAIR).name == first.name
    assert_cloud_init_did_its_work(guest)
