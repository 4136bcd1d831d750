"""The sentences that the design was accepted by, on real VFs: igb, vfio-pci, igbvf."""

from __future__ import annotations

from tests.sriov.journey import PAIR, PINGS, Journey

PROGRAMMED = (PAIR.mac, 0)
PLANNED = {"before", "switch", "unplug", "move", "arrive", "plug", "after"}
"""The phases of a migration in which nothing may be lost: all but the downtime."""


def test_two_pci_devices_of_one_mac_are_visible_to_management(journey: Journey) -> None:
    assert journey.on_vf
    shown = journey.hosts.helper(f"inspect {journey.hosts.describe(journey.source)}")
    nics = {nic["role"]: nic for nic in shown["nics"]}
    assert {nic["mac"] for nic in nics.values()} == {PAIR.mac}
    assert len({nic["address"] for nic in nics.values()}) == len(nics) == 2
    (link,) = journey.hosts.machine.ip("link", "show", "dev", journey.source.standby_link)
    assert link["linkinfo"]["info_kind"] == "macvtap"
    assert link["linkinfo"]["info_data"]["mode"] == "bridge"
    assert link["link"] == journey.hosts.pfs["A"]


def test_the_guest_puts_them_together_and_all_traffic_takes_the_vf(journey: Journey) -> None:
    assert journey.on_vf["active"] == "vf"
    assert journey.shown_vfs("A").count(PROGRAMMED) == 1
    before = journey.standby_packets(journey.source)
    assert journey.answered() == PINGS
    assert journey.standby_packets(journey.source) == before


def test_a_migration_that_fails_gives_the_vf_back_on_the_source(journey: Journey) -> None:
    report = journey.failed
    assert (report["result"], report["running_on"]) == ("failed", "source")
    assert report["accelerated"] is True
    assert journey.hosts.wait_on_vf(journey.source)["active"] == "vf"
    assert PROGRAMMED in journey.shown_vfs("A")
    assert PROGRAMMED not in journey.shown_vfs("B")


def test_the_vf_is_detached_before_and_connectivity_stays_on_virtio(journey: Journey) -> None:
    moved = journey.moved
    names = [phase["name"] for phase in moved.report["phases"]]
    assert names.index("switch") < names.index("detach") < names.index("migrate")
    assert moved.seen.active_kind_at(moved.downtime_at_s) == "standby"
    lost = moved.lost()
    assert {name: lost[name] for name in ("switch", "unplug", "move")} == dict.fromkeys(
        ("switch", "unplug", "move"), 0
    )
    assert moved.seen.tcp.survived


def test_a_vf_of_the_destination_is_found_and_programmed(journey: Journey) -> None:
    assert journey.moved.report["running_on"] == "destination"
    assert journey.shown_vfs("B").count(PROGRAMMED) == 1
    assert PROGRAMMED not in journey.shown_vfs("A")
    (link,) = journey.hosts.machine.ip("link", "show", "dev", journey.destination.standby_link)
    assert link["link"] == journey.hosts.pfs["B"]


def test_the_guest_starts_there_on_virtio_and_prefers_the_vf_again(journey: Journey) -> None:
    moved = journey.moved
    assert moved.report["accelerated"] is True
    kinds = [port.kind for port in moved.seen.active_ports if port.at_s > moved.downtime_at_s]
    assert kinds == ["vf"]
    assert {name: lost for name, lost in moved.lost().items() if name in PLANNED and lost} == {}


def test_without_a_free_vf_the_guest_goes_on_unaccelerated(journey: Journey) -> None:
    returned = journey.returned
    assert (returned.report["result"], returned.report["running_on"]) == ("done", "destination")
    assert returned.report["accelerated"] is False
    assert "un-accelerated" in " ".join(returned.report["warnings"])
    assert PROGRAMMED not in (*journey.shown_vfs("A"), *journey.shown_vfs("B"))
    assert returned.seen.tcp.survived
    assert {name: lost for name, lost in returned.lost().items() if name in PLANNED and lost} == {}
