"""The VF that is claimed, and the reasons against the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from guestagent.host.sriov.core.choose import choose
from guestagent.host.sriov.core.model import (
    Inventory,
    Lease,
    LeaseOwner,
    Pf,
    Process,
    Vf,
    VfState,
    Want,
)

STATE = VfState(mac="00:00:00:00:00:00")


def vf(pf: int, index: int) -> Vf:
    return Vf(
        address=f"0000:0{pf}:10.{index}",
        index=index,
        driver=None,
        iommu_group=10 * pf + index,
        state=STATE,
    )


def pf(number: int, vfs: int = 2) -> Pf:
    return Pf(
        address=f"0000:0{number}:00.0",
        name=f"pf{number}",
        names=(f"pf{number}", f"physnet{number}", f"0000:0{number}:00.0"),
        driver="igb",
        up=True,
        carrier=True,
        mtu=1500,
        vfs=tuple(vf(number, index) for index in range(vfs)),
        total_vfs=8,
    )


def chosen(want: Want, *pfs: Pf) -> str | None:
    choice = choose(Inventory(pfs=pfs), want)
    assert (choice.vf is None) == bool(choice.reasons)
    return None if choice.vf is None else choice.vf.address


def reasons(want: Want, *pfs: Pf) -> str:
    choice = choose(Inventory(pfs=pfs), want)
    assert choice.vf is None
    return "; ".join(choice.reasons)


def held(pf: Pf) -> Pf:
    lease = Lease(
        vf=pf.vfs[0].address,
        pf=pf.address,
        pf_name=pf.name,
        index=0,
        owner=LeaseOwner(vm="web1", operation="one"),
        claimed_at="now",
        prior=None,
        former_driver=None,
    )
    return replace(pf, vfs=(replace(pf.vfs[0], lease=lease), *pf.vfs[1:]))


def test_the_pf_with_the_most_free_vfs_is_taken() -> None:
    assert chosen(Want(), pf(1, vfs=1), pf(2, vfs=3), pf(3, vfs=2)) == "0000:02:10.0"
    assert chosen(Want(), held(pf(1)), pf(2)) == "0000:02:10.0"


def test_the_pf_that_is_named_first_comes_first() -> None:
    want = Want(pfs=("physnet2", "physnet1"))
    assert chosen(want, pf(1, vfs=4), pf(2, vfs=1)) == "0000:02:10.0"
    assert chosen(want, pf(1), replace(pf(2), up=False)) == "0000:01:10.0"


@pytest.mark.parametrize("name", ["pf2", "physnet2", "0000:02:00.0"])
def test_a_pf_has_several_names(name: str) -> None:
    assert chosen(Want(pfs=(name,)), pf(1), pf(2)) == "0000:02:10.0"


def test_a_vf_that_is_named_is_taken_or_nothing() -> None:
    assert chosen(Want(vf="0000:01:10.1"), pf(1)) == "0000:01:10.1"
    want = Want(vf="0000:01:10.0")
    assert "held by lease of web1 (one)" in reasons(want, held(pf(1)), pf(2))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"up": False}, "pf1: is down; its VFs do not work before: ip link set pf1 up"),
        ({"carrier": False}, "pf1: has no carrier"),
        ({"mtu": 1400}, "pf1: has MTU 1400, the guest needs 1500"),
        ({"vlans": frozenset({1, 5})}, "pf1: its bridge does not let VLAN 7 through"),
        ({"vfs": ()}, "pf1: has no VFs; write their number to sriov_numvfs"),
    ],
)
def test_a_pf_that_does_not_fit_says_why(change: dict[str, object], said: str) -> None:
    unfit = replace(pf(1), **change)  # type: ignore[arg-type]
    assert reasons(Want(vlan=7, mtu=1500), unfit) == said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"user": Process(pid=7, name="qemu")}, "held by process 7 (qemu)"),
        ({"host_use": "interface eth3 is up"}, "held by this host: interface eth3 is up"),
        ({"iommu_group": None}, "is in no IOMMU group"),
        ({"group_mates": ("0000:01:10.1",)}, "shares IOMMU group 10 with 0000:01:10.1"),
    ],
)
def test_a_vf_that_is_not_free_says_why(change: dict[str, object], said: str) -> None:
    one = pf(1, vfs=1)
    unfit = replace(one, vfs=(replace(one.vfs[0], **change),))  # type: ignore[arg-type]
    assert said in reasons(Want(), unfit)


def test_vlans_of_a_bridge_that_filters_nothing_do_not_matter() -> None:
    assert chosen(Want(vlan=7), pf(1)) is not None
    assert chosen(Want(vlan=7), replace(pf(1), vlans=frozenset({7}))) is not None


def test_a_host_without_sriov_is_said_to_be_one() -> None:
    assert reasons(Want()) == "this host has no PF with VFs"
