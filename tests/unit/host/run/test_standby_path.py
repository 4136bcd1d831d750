"""Where frames to the standby are let in once a command has ended: where no VF takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from guestagent.errors import PeerError
from guestagent.host.hypervisor.base import RefusedError
from guestagent.host.migration.state import Goal, Phase
from guestagent.host.model import End
from guestagent.host.sriov.core.model import Lease, LeaseOwner, Process, Standby, Want
from tests.fakes.guest import FakeGuest
from tests.fakes.qmp import Ending, Guest
from tests.fakes.sriov import FakeVfPool
from tests.unit.host.support import MAC, World, play


class GuestThatStays(FakeGuest):
    """It refuses to leave the VF of its last pair; it has left the others by then."""

    async def to_standby(self, macs: Sequence[str], *, hold_s: float) -> None:
        await FakeGuest.to_standby(self, macs[:-1], hold_s=hold_s)
        raise RefusedError("the standby has no carrier")


class GuestThatDiesOnTheStandby(FakeGuest):
    """Its agent leaves the VF and is not heard of again."""

    async def to_vf(self, macs: Sequence[str], *, timeout_s: float) -> None:
        raise PeerError("no answer")


def open_at(stage: World) -> dict[End, bool]:
    """Return whether each host lets frames to the standby in."""
    return {end: bool(host.open) for end, host in stage.vf_hosts.items()}


def test_the_path_is_open_before_the_guest_is_asked_to_use_it(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.provide_vfs()
        seen: list[dict[End, bool]] = []

        class Watched(FakeGuest):
            async def to_standby(self, macs: Sequence[str], *, hold_s: float) -> None:
                seen.append(open_at(stage))
                await FakeGuest.to_standby(self, macs, hold_s=hold_s)

        stage.guests[End.SOURCE] = Watched()
        assert (await stage.drive(Goal.DETACH)).state.phase is Phase.DONE
        assert seen == [{End.SOURCE: True, End.DESTINATION: False}]

    play(tmp_path, scenario)


def test_a_guest_that_will_not_leave_its_vf_has_its_path_closed_again(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.provide_vfs()
        stage.limits = replace(stage.limits, guest_must_agree=True)
        stage.guests[End.SOURCE] = guest = GuestThatStays()
        assert (await stage.drive(Goal.DETACH)).state.phase is Phase.FAILED
        assert guest.on_standby == set(), "the pair that had left its VF was told to come back"
        assert open_at(stage) == {End.SOURCE: False, End.DESTINATION: False}

    play(tmp_path, scenario, pairs=2)


def test_a_guest_that_does_not_answer_at_all_keeps_its_path_where_it_arrives(
    tmp_path: Path,
) -> None:
    """Its agent may be dead: then nobody puts the VF that it gets into the bond."""

    async def scenario(stage: World) -> None:
        stage.provide_vfs()
        stage.guests = {end: FakeGuest(failure=PeerError("no answer")) for end in End}
        outcome = await stage.drive()
        assert (outcome.state.phase, outcome.state.attached) == (Phase.DONE, ("vf0",))
        assert open_at(stage) == {End.SOURCE: False, End.DESTINATION: True}

    play(tmp_path, scenario)


def test_a_guest_that_does_not_answer_at_all_keeps_its_path_where_it_stays(
    tmp_path: Path,
) -> None:
    async def scenario(stage: World) -> None:
        stage.provide_vfs()
        stage.source.ending = Ending.FAILS
        stage.guests = {end: FakeGuest(failure=PeerError("no answer")) for end in End}
        outcome = await stage.drive()
        assert (outcome.state.guest_at, outcome.state.attached) == (End.SOURCE, ("vf0",))
        assert open_at(stage) == {End.SOURCE: True, End.DESTINATION: False}

    play(tmp_path, scenario)


@pytest.mark.parametrize("asked", [True, False], ids=["agent", "no-agent"])
def test_a_guest_that_may_still_release_its_vf_keeps_its_path(
    tmp_path: Path, *, asked: bool
) -> None:
    """The request to release it stays with a guest that did not get to it in time."""

    async def scenario(stage: World) -> None:
        stage.provide_vfs()
        stage.source.guest = Guest.HANGS
        stage.shorten(unplug_s=0.1)
        if not asked:
            stage.guests = {}
        outcome = await stage.drive()
        assert (outcome.state.phase, outcome.state.attached) == (Phase.FAILED, ("vf0",))
        assert open_at(stage) == {End.SOURCE: True, End.DESTINATION: False}
        stage.source.guest = Guest.RELEASES
        assert (await stage.drive(Goal.DETACH)).state.phase is Phase.DONE
        assert (await stage.drive(Goal.ATTACH)).state.phase is Phase.DONE
        assert open_at(stage) == {End.SOURCE: False, End.DESTINATION: False}

    play(tmp_path, scenario)


def test_a_guest_that_nobody_can_ask_has_its_path_closed(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.provide_vfs()
        stage.guests = {}
        outcome = await stage.drive()
        assert outcome.state.attached == ("vf0",)
        assert open_at(stage) == {End.SOURCE: False, End.DESTINATION: False}

    play(tmp_path, scenario)


@pytest.mark.parametrize("phase", [Phase.RESERVE, Phase.SWITCH])
@pytest.mark.parametrize("was_open", [False, True])
def test_a_command_cancelled_before_the_guest_is_asked_leaves_the_path_as_it_is(
    tmp_path: Path, phase: Phase, *, was_open: bool
) -> None:
    """Open: an earlier command did not hear that the guest uses its VF."""

    async def scenario(stage: World) -> None:
        stage.provide_vfs()
        if was_open:
            await FakeVfPool(stage.vf_hosts[End.SOURCE]).open_standby(
                Standby(link="tap-vf0", mac=MAC)
            )
        stage.watcher.cancel_in = phase
        assert (await stage.drive()).state.phase is Phase.FAILED
        assert open_at(stage) == {End.SOURCE: was_open, End.DESTINATION: False}

    play(tmp_path, scenario)


def test_a_guest_keeps_its_path_where_nobody_waits_until_it_uses_its_vf(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.provide_vfs()
        stage.watcher.cancel_in = Phase.CONFIRM
        assert (await stage.drive()).state.phase is Phase.DONE
        assert open_at(stage) == {End.SOURCE: False, End.DESTINATION: True}

    play(tmp_path, scenario)


def test_a_guest_that_gets_one_vf_of_two_is_asked_whether_it_uses_it(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.provide_vfs()
        stage.source.devices.clear()
        stage.guests[End.SOURCE] = GuestThatDiesOnTheStandby()
        lacking = stage.vf_hosts[End.SOURCE].users
        lacking["0000:01:10.2"] = Process(pid=1, name="another VM")
        outcome = await stage.drive(Goal.ATTACH)
        assert (outcome.state.phase, outcome.state.attached) == (Phase.FAILED, ("vf0",))
        assert len(stage.vf_hosts[End.SOURCE].open) == 2

    play(tmp_path, scenario, pairs=2)


def test_a_guest_that_has_moved_to_a_vf_leaves_no_path_behind(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.provide_vfs()
        outcome = await stage.drive()
        assert outcome.state.attached == ("vf0",)
        assert open_at(stage) == {End.SOURCE: False, End.DESTINATION: False}

    play(tmp_path, scenario)


def test_a_guest_without_a_vf_where_it_arrives_has_its_path_there_alone(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.provide_vfs()
        other = FakeVfPool(stage.vf_hosts[End.DESTINATION])
        for number in range(2):
            await other.claim(Want(), LeaseOwner(vm=f"other{number}", operation="one"))
        outcome = await stage.drive()
        assert (outcome.state.phase, outcome.state.attached) == (Phase.DONE, ())
        assert open_at(stage) == {End.SOURCE: False, End.DESTINATION: True}

    play(tmp_path, scenario)


def test_so_it_is_when_both_qemus_are_on_one_host(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.provide_vfs()
        host = stage.vf_hosts[End.SOURCE]
        stage.vf_hosts[End.DESTINATION] = host
        await FakeVfPool(host).claim(
            Want(vf="0000:01:10.2"), LeaseOwner(vm="other", operation="one")
        )
        outcome = await stage.drive()
        assert (outcome.state.phase, outcome.state.attached) == (Phase.DONE, ())
        assert len(host.open) == 1

    play(tmp_path, scenario)


def test_a_migration_that_fails_leaves_the_path_as_it_was(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.provide_vfs()
        stage.source.ending = Ending.FAILS
        outcome = await stage.drive()
        assert (outcome.state.guest_at, outcome.state.attached) == (End.SOURCE, ("vf0",))
        assert open_at(stage) == {End.SOURCE: False, End.DESTINATION: False}

    play(tmp_path, scenario)


def test_so_it_does_where_the_other_host_has_gone_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases = FakeVfPool.leases

    async def scenario(stage: World) -> None:
        async def or_gone(pool: FakeVfPool, vm: str | None = None) -> tuple[Lease, ...]:
            there = pool.host is stage.vf_hosts[End.DESTINATION]
            if there and stage.source.migration == "failed":
                raise PeerError("ssh://host2: no guestagent-host answers there")
            return await leases(pool, vm)

        monkeypatch.setattr(FakeVfPool, "leases", or_gone)
        stage.provide_vfs()
        stage.source.ending = Ending.FAILS
        outcome = await stage.drive()
        assert (outcome.state.guest_at, outcome.state.attached) == (End.SOURCE, ("vf0",))
        assert open_at(stage)[End.SOURCE] is False
        assert "ssh://host2" in outcome.state.warnings[-1]

    play(tmp_path, scenario)


def test_a_guest_whose_vf_was_taken_away_keeps_its_path(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.provide_vfs()
        outcome = await stage.drive(Goal.DETACH)
        assert outcome.state.phase is Phase.DONE
        assert open_at(stage) == {End.SOURCE: True, End.DESTINATION: False}

    play(tmp_path, scenario)


def test_a_guest_that_does_not_say_that_it_uses_its_vf_keeps_its_path(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.provide_vfs()
        stage.guests[End.DESTINATION] = FakeGuest(failure=PeerError("no answer"))
        outcome = await stage.drive()
        assert (outcome.state.phase, outcome.state.confirmed) == (Phase.DONE, False)
        assert outcome.state.attached == ("vf0",)
        assert open_at(stage) == {End.SOURCE: False, End.DESTINATION: True}
        assert "standby" in outcome.state.warnings[-1]

    play(tmp_path, scenario)


def test_so_does_one_that_does_not_say_so_when_it_gets_its_vf_back(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.provide_vfs()
        stage.source.ending = Ending.FAILS
        stage.guests[End.SOURCE] = GuestThatDiesOnTheStandby()
        outcome = await stage.drive()
        assert outcome.state.attached == ("vf0",)
        assert open_at(stage) == {End.SOURCE: True, End.DESTINATION: False}

    play(tmp_path, scenario)
