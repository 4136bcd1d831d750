"""NICs that are a pair, and the reasons for which others are left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from guestagent.guest.core.pairing import Pairing, pair_up
from guestagent.guest.core.policy import BondOptions, PairPolicy, Policy
from guestagent.guest.core.snapshot import Snapshot
from tests.fakes.kernel import FakeKernel

MAC = "52:54:00:00:00:01"
OTHER = "52:54:00:00:00:02"


def judged(kernel: FakeKernel, policy: Policy | None = None) -> Pairing:
    return pair_up(Snapshot(links=kernel.links()), policy or Policy())


def test_virtio_and_another_nic_of_one_permanent_mac_are_a_pair() -> None:
    kernel = FakeKernel()
    kernel.plug("ens2", MAC, driver="virtio_net")
    kernel.plug("ens3", MAC)
    (pair,) = judged(kernel).pairs
    assert (pair.mac, pair.standby.name, pair.vf and pair.vf.name) == (MAC, "ens2", "ens3")


def test_a_changed_current_mac_does_not_matter() -> None:
    kernel = FakeKernel()
    kernel.plug("ens2", MAC, driver="virtio_net")
    vf = kernel.plug("ens3", MAC)
    kernel.table[vf] = replace(kernel.table[vf], address="02:aa:aa:aa:aa:aa")
    assert len(judged(kernel).pairs) == 1


def test_a_vlan_or_bridge_with_the_mac_is_no_nic_of_the_pair() -> None:
    kernel = FakeKernel()
    kernel.plug("ens2", MAC, driver="virtio_net")
    kernel.add_virtual("br0", MAC, "bridge")
    assert judged(kernel) == Pairing()


def test_three_nics_of_one_mac_are_refused() -> None:
    kernel = FakeKernel()
    kernel.plug("ens2", MAC, driver="virtio_net")
    kernel.plug("ens3", MAC)
    kernel.plug("ens4", MAC)
    (refusal,) = judged(kernel).refusals
    assert refusal.links == ("ens2", "ens3", "ens4")
    assert "a MAC of its own" in refusal.hint


def test_net_failover_is_refused_and_reported() -> None:
    kernel = FakeKernel()
    kernel.plug("ens2", MAC, driver="virtio_net", net_failover=True)
    kernel.plug("ens3", MAC)
    (refusal,) = judged(kernel).refusals
    assert "net_failover" in refusal.reason


def test_a_nic_in_a_bridge_is_left_alone_with_the_reason() -> None:
    kernel = FakeKernel()
    bridge = kernel.add_virtual("br0", "02:00:00:00:00:09", "bridge")
    nic = kernel.plug("ens2", MAC, driver="virtio_net")
    kernel.table[nic] = replace(kernel.table[nic], upper=bridge)
    kernel.plug("ens3", MAC)
    (refusal,) = judged(kernel).refusals
    assert "bridge br0" in refusal.reason
    assert f"put {MAC} on the exclude list" in refusal.hint


def test_a_nic_under_a_vlan_is_left_alone_with_the_reason() -> None:
    kernel = FakeKernel()
    nic = kernel.plug("ens2", MAC, driver="virtio_net")
    kernel.add_virtual("ens2.5", MAC, "vlan", lower=nic)
    kernel.plug("ens3", MAC)
    (refusal,) = judged(kernel).refusals
    assert "ens2.5" in refusal.reason


def test_an_excluded_mac_is_refused() -> None:
    kernel = FakeKernel()
    kernel.plug("ens2", MAC, driver="virtio_net")
    kernel.plug("ens3", MAC)
    (refusal,) = judged(kernel, Policy(excluded=frozenset({MAC}))).refusals
    assert "excluded" in refusal.reason


@pytest.mark.parametrize("name", [MAC, "0000:00:02.0", "virtio_net"])
def test_a_standby_is_excluded_under_each_of_its_names(name: str) -> None:
    kernel = FakeKernel()
    kernel.plug("ens2", MAC, driver="virtio_net")
    kernel.plug("ens3", MAC)
    (refusal,) = judged(kernel, Policy(excluded=frozenset({name}))).refusals
    assert refusal.reason == "excluded by the configuration"


def test_an_excluded_third_nic_leaves_a_pair() -> None:
    kernel = FakeKernel()
    kernel.plug("ens2", MAC, driver="virtio_net")
    kernel.plug("ens3", MAC)
    kernel.plug("ens4", MAC, driver="sfc")
    for name in ("sfc", "0000:00:04.0"):
        (pair,) = judged(kernel, Policy(excluded=frozenset({name}))).pairs
        assert pair.vf is not None
        assert pair.vf.name == "ens3"


def test_without_its_excluded_vf_a_nic_is_an_ordinary_one() -> None:
    kernel = FakeKernel()
    kernel.plug("ens2", MAC, driver="virtio_net")
    kernel.plug("ens3", MAC, driver="sfc")
    outcome = judged(kernel, Policy(excluded=frozenset({"sfc"})))
    assert outcome.pairs == ()
    (refusal,) = outcome.refusals
    assert refusal.links == ("ens2", "ens3")


def test_a_list_bonds_what_it_names_and_nothing_else() -> None:
    kernel = FakeKernel()
    kernel.plug("ens2", MAC, driver="virtio_net")
    kernel.plug("ens3", MAC)
    kernel.plug("ens4", OTHER, driver="virtio_net")
    by_mac = judged(kernel, Policy(only=frozenset({OTHER}), unseen=True))
    assert [(pair.mac, pair.vf) for pair in by_mac.pairs] == [(OTHER, None)]
    assert [item.mac for item in by_mac.refusals] == [MAC]
    by_driver = judged(kernel, Policy(only=frozenset({"e1000e"}), unseen=True))
    assert [pair.mac for pair in by_driver.pairs] == [MAC]
    assert by_driver.refusals == (), "a NIC that never had a VF is nobody's business"


def test_always_bonds_a_virtio_nic_that_never_had_a_vf() -> None:
    kernel = FakeKernel()
    kernel.plug("ens2", MAC, driver="virtio_net")
    kernel.plug("ens3", OTHER)
    assert judged(kernel).pairs == ()
    (pair,) = judged(kernel, Policy(unseen=True)).pairs
    assert (pair.mac, pair.vf) == (MAC, None)


def test_a_bond_name_that_is_taken_is_refused_with_the_reason() -> None:
    kernel = FakeKernel()
    kernel.plug("ens2", MAC, driver="virtio_net")
    kernel.plug("ens3", MAC)
    named = PairPolicy(mac=MAC, bond_name="lan0", options=BondOptions())
    assert len(judged(kernel, Policy(pairs=(named,))).pairs) == 1
    kernel.add_virtual("lan0", OTHER, "bridge")
    (refusal,) = judged(kernel, Policy(pairs=(named,))).refusals
    assert "lan0" in refusal.reason


def test_two_ordinary_nics_with_one_mac_are_ignored() -> None:
    kernel = FakeKernel()
    kernel.plug("ens2", MAC, driver="e1000e")
    kernel.plug("ens3", MAC, driver="igb")
    assert judged(kernel) == Pairing()
