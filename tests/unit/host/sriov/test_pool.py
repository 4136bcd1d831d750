"""The pool of VFs on a host of files: what a driver refuses, what a crash leaves, who waits."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from guestagent.errors import ConflictError, DeadlineError
from guestagent.host.sriov.base import VfRefusedError
from guestagent.host.sriov.core.model import (
    CLEARED_MAC,
    NO_MAC,
    Lease,
    LeaseOwner,
    LinkState,
    OnRefusal,
    PortProfile,
    Standby,
    VfSettings,
    VlanProtocol,
    Want,
)
from guestagent.host.sriov.core.values import Carrier, Mac, SpoofCheck, Trust, VlanTag
from guestagent.host.sriov.links import HostLink, PortResponse
from tests.fakes.hosttree import FakeHost, FakeLinks, pf_address, vf_address

MAC = "52:54:00:aa:00:01"
WEB1 = LeaseOwner(vm="web1", operation="one")
VF = vf_address(0, 0)
PF = 10
BRIDGE = HostLink(ifindex=50, name="br0", names=("br0",), kind="bridge")
TAP = HostLink(ifindex=51, name="tap0", names=("tap0",), kind="tun", upper=50)
MACVTAP = HostLink(ifindex=52, name="mv0", names=("mv0",), kind="macvtap", lower=PF, mac=MAC)
ETH3 = HostLink(ifindex=53, name="eth3", names=("eth3",))
TAP_STANDBY = Standby(link="tap0", mac=MAC)


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(root=tmp_path, others=(BRIDGE, TAP, MACVTAP, ETH3)).build()


def settings(**values: object) -> VfSettings:
    return replace(VfSettings(mac=MAC), **values)  # type: ignore[arg-type]


def programmed(host: FakeHost, links: FakeLinks, wanted: VfSettings) -> Lease:
    pool = host.pool(links)
    return pool.program(pool.claim(Want(vf=VF), WEB1), wanted)


# --- programming ---------------------------------------------------------------------------


def test_every_value_is_written_through_the_pf(host: FakeHost) -> None:
    links = host.links()
    programmed(
        host,
        links,
        settings(
            vlan=7,
            qos=3,
            vlan_protocol=VlanProtocol.DOT1AD,
            trust=True,
            spoof_check=False,
            link_state=LinkState.ENABLE,
            min_rate_mbit_per_s=10,
            max_rate_mbit_per_s=100,
        ),
    )
    state = links.vf_states(PF)[0]
    assert (state.mac, state.vlan, state.qos) == (MAC, 7, 3)
    assert state.vlan_protocol is VlanProtocol.DOT1AD
    assert (state.trust, state.spoof_check, state.link_state) == (True, False, LinkState.ENABLE)
    assert (state.min_rate_mbit_per_s, state.max_rate_mbit_per_s) == (10, 100)
    assert host.driver(VF) == "vfio-pci"


def test_a_rate_that_was_not_given_stays(host: FakeHost) -> None:
    links = host.links()
    lease = programmed(host, links, settings(max_rate_mbit_per_s=100))
    host.pool(links).program(lease, settings(min_rate_mbit_per_s=10))
    assert links.vf_states(PF)[0].max_rate_mbit_per_s == 100


def test_a_busy_driver_is_asked_again(host: FakeHost) -> None:
    links = host.links()
    links.busy = 2
    assert programmed(host, links, settings()).warnings == ()
    assert links.vf_states(PF)[0].mac == MAC


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (Trust, settings(trust=True)),
        (SpoofCheck, settings(spoof_check=False)),
        (Carrier, settings(link_state=LinkState.ENABLE)),
    ],
)
def test_an_optional_value_that_is_refused_is_a_warning(
    host: FakeHost, kind: object, wanted: VfSettings
) -> None:
    links = host.links()
    links.refused[kind] = errno.EOPNOTSUPP
    (warning,) = programmed(host, links, wanted).warnings
    assert VF in warning
    assert "Operation not supported" in warning
    assert links.vf_states(PF)[0].mac == MAC


def test_an_optional_value_that_is_refused_is_an_error_where_that_is_asked_for(
    host: FakeHost,
) -> None:
    links = host.links()
    links.refused[Trust] = errno.EOPNOTSUPP
    with pytest.raises(VfRefusedError, match="trust on"):
        programmed(host, links, settings(trust=True, on_refusal=OnRefusal.FAIL))
    assert links.vf_states(PF)[0].mac == NO_MAC


def test_a_value_that_is_accepted_and_not_done_is_found(host: FakeHost) -> None:
    links = host.links()
    links.ignored.add(VlanTag)
    with pytest.raises(VfRefusedError, match="was accepted, but the PF reports VLAN 0"):
        programmed(host, links, settings(vlan=7))
    assert links.vf_states(PF)[0].mac == NO_MAC


def test_a_vf_whose_mac_is_refused_is_left_without_and_stays_leased(host: FakeHost) -> None:
    links = host.links()
    links.refused[MAC] = errno.EINVAL
    with pytest.raises(VfRefusedError, match="EINVAL"):
        programmed(host, links, settings(standby=TAP_STANDBY))
    (lease,) = host.pool(links).leases("web1")
    assert links.vf_states(PF)[0].mac == NO_MAC
    assert links.bridge[MAC] == TAP.ifindex
    assert host.pool(links).release(lease) == ()


def test_a_driver_that_refuses_a_mac_in_its_pf_s_filter_gets_it_once_that_is_closed(
    host: FakeHost,
) -> None:
    links = host.links()
    links.change(PF, upper=BRIDGE.ifindex)
    links.refused["unicast"] = errno.EINVAL
    pool = host.pool(links)
    pool.open_standby(TAP_STANDBY)
    (warning,) = programmed(host, links, settings(standby=TAP_STANDBY)).warnings
    assert "frames to the guest are lost" in warning
    assert links.vf_states(PF)[0].mac == MAC
    assert links.forwarding_entries(MAC) == ()


def test_the_mac_is_there_before_a_driver_is_bound(host: FakeHost) -> None:
    host.give_interface(VF, "eth3")
    links = host.links()
    seen = []

    class Watching(FakeLinks):
        def write_vf(self, pf: int, index: int, value: object) -> None:
            seen.append((type(value), host.driver(VF)))
            super().write_vf(pf, index, value)  # type: ignore[arg-type]

    programmed(host, Watching(host=links.host), settings())
    assert (Mac, None) in seen


# --- 802.1Qbh ------------------------------------------------------------------------------


def test_a_port_profile_is_waited_for(host: FakeHost) -> None:
    links = host.links()
    links.responses = [PortResponse.IN_PROGRESS, PortResponse.IN_PROGRESS, PortResponse.SUCCESS]
    profile = PortProfile(name="gold")
    lease = programmed(host, links, settings(port_profile=profile))
    assert links.profile == profile
    host.pool(links).release(lease)
    assert links.profile is None


def test_a_port_profile_that_the_switch_refuses_is_an_error(host: FakeHost) -> None:
    links = host.links()
    links.responses = [PortResponse.IN_PROGRESS, PortResponse.INSUFFICIENT_RESOURCES]
    with pytest.raises(VfRefusedError, match="'gold': insufficient resources"):
        programmed(host, links, settings(port_profile=PortProfile(name="gold")))
    assert links.vf_states(PF)[0].mac == NO_MAC


def test_a_switch_that_never_answers_is_waited_for_in_bounded_time(host: FakeHost) -> None:
    links = host.links()
    links.responses = [PortResponse.IN_PROGRESS]
    with pytest.raises(VfRefusedError, match="'gold': in progress"):
        programmed(host, links, settings(port_profile=PortProfile(name="gold")))


def test_a_driver_without_port_profiles_says_so_and_its_vf_can_be_released(
    host: FakeHost,
) -> None:
    links = host.links()
    links.refused[PortProfile] = errno.EOPNOTSUPP
    with pytest.raises(VfRefusedError, match="Operation not supported"):
        programmed(host, links, settings(port_profile=PortProfile(name="gold")))
    (lease,) = host.pool(links).leases()
    assert host.pool(links).release(lease) == ()
    assert links.vf_states(PF)[0].mac == NO_MAC


# --- release -------------------------------------------------------------------------------


def test_what_was_before_is_restored(host: FakeHost) -> None:
    host.give_interface(VF, "eth3")
    links = host.links()
    for value in (Mac(mac="52:54:00:ff:00:01"), Trust(on=True), Carrier(state=LinkState.DISABLE)):
        links.write_vf(PF, 0, value)
    before = links.vf_states(PF)[0]
    wanted = settings(vlan=7, trust=False, link_state=LinkState.AUTO, max_rate_mbit_per_s=5)
    lease = programmed(host, links, wanted)
    assert links.vf_states(PF)[0] != before
    assert host.pool(links).release(lease) == ()
    assert links.vf_states(PF)[0] == before
    assert host.driver(VF) == "igbvf"
    assert host.vfio().override(VF) is None


def test_a_tenant_s_mac_is_never_what_was_before(host: FakeHost) -> None:
    links = host.links()
    links.write_vf(PF, 0, Mac(mac=MAC))
    lease = programmed(host, links, settings())
    host.pool(links).release(lease)
    assert links.vf_states(PF)[0].mac == NO_MAC


def test_zeros_that_are_refused_are_replaced(host: FakeHost) -> None:
    links = host.links()
    lease = programmed(host, links, settings())
    links.refused[NO_MAC] = errno.EADDRNOTAVAIL
    lease = host.pool(links).withdraw(lease)
    assert links.vf_states(PF)[0].mac == CLEARED_MAC
    host.pool(links).release(lease)
    assert links.vf_states(PF)[0].mac == CLEARED_MAC


def test_a_vf_that_keeps_the_tenant_s_mac_stays_leased(host: FakeHost) -> None:
    links = host.links()
    lease = programmed(host, links, settings())
    links.ignored.add(Mac)
    with pytest.raises(VfRefusedError, match="was accepted, but the PF reports"):
        host.pool(links).release(lease)
    assert host.pool(links).leases() == (lease,)
    links.ignored.clear()
    assert host.pool(links).release(lease) == ()


def test_a_vf_that_keeps_the_tenant_s_vlan_stays_leased(host: FakeHost) -> None:
    links = host.links()
    lease = programmed(host, links, settings(vlan=7))
    links.refused[VlanTag] = errno.EINVAL
    with pytest.raises(VfRefusedError):
        host.pool(links).release(lease)
    assert host.pool(links).leases() == (lease,)


def test_a_vf_that_a_process_has_is_not_touched(host: FakeHost) -> None:
    links = host.links()
    lease = programmed(host, links, settings())
    host.open_by(VF, 4711, "qemu-system-x86")
    for step in (host.pool(links).withdraw, host.pool(links).release):
        with pytest.raises(DeadlineError, match=r"process 4711 \(qemu-system-x86\) still has it"):
            step(lease)
    assert links.vf_states(PF)[0].mac == MAC
    host.close_by(4711)
    host.pool(links).release(lease)
    assert links.vf_states(PF)[0].mac == NO_MAC


def test_its_lease_says_what_it_is_and_not_what_it_shall_be(host: FakeHost) -> None:
    links = host.links()
    lease = programmed(host, links, settings(vlan=7))
    host.open_by(VF, 4711, "qemu-system-x86")
    with pytest.raises(DeadlineError):
        host.pool(links).program(lease, settings(vlan=8))
    assert host.pool(links).leases() == (lease,)


def test_what_a_tenant_was_allowed_is_not_so_for_the_next_of_a_vf_without_a_before(
    host: FakeHost,
) -> None:
    """One that its VM had before anybody took a lease on it."""
    links = host.links()
    for value in (Trust(on=True), SpoofCheck(on=False), Carrier(state=LinkState.DISABLE)):
        links.write_vf(PF, 0, value)
    host.pool(links).release(host.pool(links).adopt(VF, WEB1, settings()))
    state = links.vf_states(PF)[0]
    assert (state.trust, state.spoof_check, state.link_state) == (False, True, LinkState.AUTO)


def test_a_vf_that_is_gone_ends_its_lease(host: FakeHost) -> None:
    lease = host.pool().claim(Want(vf=VF), WEB1)
    (host.roots.device(pf_address(0)) / "virtfn0").unlink()
    host.roots.device(VF).rename(host.root / "gone")
    (warning,) = host.pool().release(lease)
    assert "no longer exists" in warning
    assert host.pool().leases() == ()


def test_a_former_driver_that_does_not_take_a_vf_is_a_warning(host: FakeHost) -> None:
    host.give_interface(VF, "eth3")
    links = host.links()
    lease = programmed(host, links, settings())
    host.remove_driver("igbvf")
    (warning,) = host.pool(links).release(lease)
    assert f"{VF}: not bound to igbvf" in warning
    assert links.vf_states(PF)[0].mac == NO_MAC
    assert host.pool(links).leases() == ()


# --- the standby's path ----------------------------------------------------------------------


def test_a_tap_in_a_bridge_on_the_pf_is_in_the_pf_s_filter_while_the_vf_is_away(
    host: FakeHost,
) -> None:
    links = host.links()
    links.change(PF, upper=BRIDGE.ifindex)
    pool = host.pool(links)
    lease = pool.settle(programmed(host, links, settings(standby=TAP_STANDBY)))
    assert links.forwarding_entries(MAC) == ()
    lease = pool.withdraw(lease)
    assert {(entry.ifindex, entry.own) for entry in links.forwarding_entries(MAC)} == {
        (PF, True),
        (51, False),
    }
    assert lease.settings is not None
    pool.settle(pool.program(lease, lease.settings))
    assert links.forwarding_entries(MAC) == ()


def test_a_plain_bridge_needs_no_filter(host: FakeHost) -> None:
    links = host.links()
    assert host.pool(links).open_standby(TAP_STANDBY) == ()
    assert [entry.own for entry in links.forwarding_entries(MAC)] == [False]
    assert host.pool(links).close_standby(TAP_STANDBY) == ()
    assert links.forwarding_entries(MAC) == ()


def test_a_macvtap_is_up_while_the_vf_is_away(host: FakeHost) -> None:
    links = host.links()
    pool = host.pool(links)
    lease = programmed(host, links, settings(standby=Standby(link="mv0", mac=MAC)))
    lease = pool.withdraw(lease)
    assert links.changes[MACVTAP.ifindex].up
    pool.settle(lease)
    assert not links.changes[MACVTAP.ifindex].up


def test_a_guest_that_is_gone_leaves_nothing_in_the_filter(host: FakeHost) -> None:
    links = host.links()
    links.add_filter_entry(PF, MAC)
    gone = Standby(link="tap9", mac=MAC)
    assert host.pool(links).close_standby(gone) == ()
    assert links.forwarding_entries(MAC) == ()
    (warning,) = host.pool(links).open_standby(gone)
    assert "tap9: no such interface" in warning


def test_a_macvtap_is_made_on_the_pf_of_the_vf_and_goes_with_the_lease(host: FakeHost) -> None:
    links = host.links()
    pool = host.pool(links)
    lease = pool.claim(Want(vf=VF), WEB1)
    made = pool.create_macvtap(lease, "mv-web1", MAC)
    assert pool.create_macvtap(lease, "mv-web1", MAC) == made
    (link,) = (link for link in links.links() if link.name == made.link)
    assert (link.lower, link.mac, link.up) == (PF, MAC, True)
    assert made.device == f"/dev/tap{link.ifindex}"
    with pytest.raises(ConflictError, match="mv0: an interface with this name exists"):
        pool.create_macvtap(lease, "mv0", MAC)
    pool.release(lease)
    assert "mv-web1" not in {link.name for link in links.links()}
    assert "mv0" in {link.name for link in links.links()}


def test_a_macvtap_that_a_process_has_stays(host: FakeHost) -> None:
    links = host.links()
    pool = host.pool(links)
    lease = pool.claim(Want(vf=VF), WEB1)
    made = pool.create_macvtap(lease, "mv-web1", MAC)
    host.open_by(VF, 4711, "qemu")
    process = host.root / "proc" / "4711"
    (process / "fd" / "8").symlink_to(made.device)
    host.close_by(4711)
    (warning,) = pool.release(lease)
    assert warning.startswith("mv-web1: process 4711 (qemu) has it open")
    assert "mv-web1" in {link.name for link in links.links()}
