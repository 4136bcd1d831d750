"""The engine after failures: rollback, the other pairs, and the error."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from guestagent.errors import PeerError, SystemLacksError
from guestagent.guest.core.addressing import Address
from guestagent.guest.core.policy import FAIL_OVER_MAC_ACTIVE
from guestagent.guest.core.snapshot import RememberedPair
from guestagent.guest.reconcile.observe import WINDOW_S
from tests.fakes.system import FakeSystem, assert_on, paired

MAC = "52:54:00:00:00:01"
OTHER = "52:54:00:00:00:02"
THIRD = "52:54:00:00:00:03"
ADDRESS = Address(family=socket.AF_INET, address="192.0.2.10", prefix_length=24)


def deafen(system: FakeSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the network stack fail when it is to give a NIC back."""

    def silent(bond: str) -> None:
        raise PeerError(f"nmcli says nothing of {bond}")

    monkeypatch.setattr(system.stack, "give_back", silent)


def test_a_pair_that_cannot_be_recorded_is_bonded_nevertheless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system = FakeSystem()
    _, vf = paired(system, MAC)

    def full(item: RememberedPair) -> None:
        raise OSError(errno.ENOSPC, f"no space for {item.mac}")

    monkeypatch.setattr(system.memory, "add", full)
    for _ in range(2):
        system.engine().converge()
    system.later(WINDOW_S)
    outcome = system.engine().converge()
    assert "could not remember" in str(outcome.error)
    assert_on(system, vf)
    assert not system.kernel.named("bond0").bond.all_ports_active  # type: ignore[union-attr]


def test_without_the_bonding_module_nothing_changes_and_the_error_says_what_to_do() -> None:
    system = FakeSystem()
    system.kernel.bonding = False
    standby, vf = paired(system, MAC)
    before = dict(system.kernel.table)
    outcome = system.engine().converge()
    assert isinstance(outcome.error, SystemLacksError)
    assert outcome.error.hint is not None
    assert system.kernel.table == before
    assert system.stack.disk == {}
    assert {standby, vf} == set(before)


def test_a_bond_that_no_port_could_join_is_taken_away_again() -> None:
    system = FakeSystem()
    standby, vf = paired(system, MAC)
    system.kernel.refuse("set_upper", errno.EBUSY)
    outcome = system.engine().converge()
    assert outcome.error is not None
    assert set(system.kernel.table) == {standby, vf}
    assert system.stack.disk == {}


def test_a_vf_whose_driver_refuses_mac_writes_joins_a_bond_that_writes_none() -> None:
    system = FakeSystem()
    _, vf = paired(system, MAC)
    system.kernel.refuse("set_upper", errno.EADDRNOTAVAIL)
    for _ in range(2):
        assert system.engine().converge().error is None
    assert_on(system, vf)
    state = system.kernel.named("bond0").bond
    assert state is not None
    assert state.fail_over_mac == FAIL_OVER_MAC_ACTIVE


def test_a_bond_that_has_a_port_goes_on_writing_macs_and_the_error_says_what_to_do() -> None:
    system = FakeSystem()
    standby, vf = paired(system, MAC)
    for _ in range(2):
        system.engine().converge()
    system.kernel.unplug(vf)
    system.engine().converge()
    system.kernel.plug("ens9", MAC)
    system.kernel.refuse("set_upper", errno.EADDRNOTAVAIL)
    outcome = system.engine().converge()
    assert outcome.error is not None
    assert 'fail-over-mac = "active"' in str(outcome.error.hint)
    assert_on(system, standby)


def test_a_silent_stack_hides_no_failure_and_prevents_no_rollback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system = FakeSystem()
    standby, vf = paired(system, MAC)

    deafen(system, monkeypatch)
    system.kernel.refuse("set_upper", errno.EBUSY)
    outcome = system.engine().converge()
    assert "set_upper" in str(outcome.error)
    monkeypatch.undo()
    system.kernel.refuse("set_upper", errno.EBUSY)
    system.engine().converge()
    assert set(system.kernel.table) == {standby, vf}


def test_a_bond_that_was_begun_before_a_crash_is_finished() -> None:
    system = FakeSystem()
    _, vf = paired(system, MAC)
    system.kernel.refuse("set_alias", errno.EINTR)
    assert system.engine().converge().error is not None
    assert system.engine().converge().error is None
    assert system.kernel.named("bond0").complete
    assert system.stack.loaded == {"/run/bond0": f"bond0 {MAC}"}
    assert_on(system, vf)


@pytest.mark.parametrize("method", ["create_bond", "set_upper", "set_alias"])
def test_a_failure_of_one_pair_prevents_no_bond_of_another(method: str) -> None:
    system = FakeSystem()
    paired(system, MAC)
    _, vf = paired(system, OTHER)
    live = system.kernel.plug("ens8", THIRD, driver="virtio_net", up=True)
    system.kernel.owned[live] = [ADDRESS]
    system.kernel.plug("ens9", THIRD)
    system.kernel.refuse(method, errno.EINVAL)
    outcome = system.engine().converge()
    assert method in str(outcome.error)
    assert outcome.failed == {"bond0"}
    assert_on(system, vf, "bond1")
    assert system.kernel.named("bond1").complete
    # One that takes several looks, in the same convergence.
    assert system.kernel.addresses(system.kernel.named("bond2").ifindex) == (ADDRESS,)
    assert system.kernel.named("bond2").complete
    assert system.engine().converge().error is None
    assert system.kernel.named("bond0").complete


def live(system: FakeSystem, mac: str) -> int:
    """Plug in a pair whose standby is in use."""
    standby = system.kernel.plug(f"ens{system.kernel.next_ifindex}", mac, driver="virtio_net")
    system.kernel.set_up(standby, up=True)
    system.kernel.owned[standby] = [ADDRESS]
    system.kernel.plug(f"ens{system.kernel.next_ifindex}", mac)
    return standby


def test_a_stack_that_reloads_for_one_bond_finds_no_files_of_another_that_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system = FakeSystem()
    stays = live(system, MAC)
    live(system, OTHER)
    reloaded: set[str] = set()
    monkeypatch.setattr(system.stack, "reload", lambda bond: reloaded.update(system.stack.disk))
    system.kernel.refuse("add_address", errno.EINVAL)
    assert system.engine().converge().failed == {"bond0"}
    assert reloaded == {"/run/bond1"}
    assert system.kernel.addresses(stays) == (ADDRESS,)


def test_a_stack_is_kept_off_a_bond_before_the_bond_exists(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system = FakeSystem()
    system.stack.pre_takeover = "nobody's"
    live(system, MAC)
    known: list[str | None] = []
    create_bond = system.kernel.create_bond

    def created(name: str, **how: Any) -> None:
        known.append(system.stack.loaded.get("/run/bond0"))
        create_bond(name, **how)

    monkeypatch.setattr(system.kernel, "create_bond", created)
    assert system.engine().converge().error is None
    assert known == ["nobody's"]
    assert system.stack.loaded == {"/run/bond0": f"bond0 {MAC}"}, "then it has it"


def test_a_bond_that_could_not_be_made_leaves_no_stack_file() -> None:
    system = FakeSystem()
    system.stack.pre_takeover = "nobody's"
    live(system, MAC)
    system.kernel.refuse("create_bond", errno.EPERM)
    assert system.engine().converge().error is not None
    assert system.stack.disk == {}


def test_a_failed_rollback_ends_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    system = FakeSystem()
    nics = {live(system, MAC), live(system, OTHER)}

    deafen(system, monkeypatch)
    system.kernel.refuse("add_address", errno.EINVAL)
    outcome = system.engine().converge()
    assert "add_address" in str(outcome.error)
    assert system.stack.loaded == {}
    assert all(system.kernel.addresses(nic) == (ADDRESS,) for nic in nics)
