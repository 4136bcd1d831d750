"""Around the journey: a neighbour on the same card, and VLANs."""

from __future__ import annotations

from tests.sriov.journey import PAIR, PINGS, Journey

ADDRESS = PAIR.addresses[0].split("/")[0]


def test_two_guests_on_one_pf_reach_each_other_on_virtio_and_on_a_vf(journey: Journey) -> None:
    # The guest on its virtio NIC, whose frames the card has to bring from and to a VF.
    assert journey.returned.report["accelerated"] is False
    assert journey.neighbour.answered(ADDRESS, pings=PINGS) == PINGS
    # And both on VFs.
    assert journey.with_neighbour["active"] == "vf"
    before = journey.standby_packets(journey.back)
    assert journey.neighbour.answered(ADDRESS, pings=PINGS) == PINGS
    assert journey.standby_packets(journey.back) == before


def test_a_vf_is_in_its_vlan_and_comes_back_clear_of_it(journey: Journey) -> None:
    assert journey.in_vlan(7)["active"] == "vf"
    assert (PAIR.mac, 7) in journey.shown_vfs("A")
    journey.neighbour.tag(7)
    assert journey.neighbour.answered(ADDRESS, pings=PINGS) == PINGS
    journey.neighbour.tag(8)
    assert journey.neighbour.answered(ADDRESS, pings=PINGS) == 0
    journey.neighbour.tag(0)
    assert journey.off_vf()["active"] == "standby"
    assert [vlan for mac, vlan in journey.shown_vfs("A") if mac == PAIR.mac or vlan] == []
    assert journey.neighbour.answered(ADDRESS, pings=PINGS) == PINGS
