"""Path health: a VF that leads nowhere is left, tried again, and left for longer."""

from __future__ import annotations

import asyncio

from guestagent.guest.core.pair import Role
from guestagent.guest.core.path_health import MAX_HOLD_DOWN_S, MISSES, PathHealth
from guestagent.guest.service.path_monitor import WatchedPair
from tests.fakes.paths import on_vf, watch
from tests.fakes.system import FakeSystem

MAC = "52:54:00:00:00:01"


def left(health: PathHealth, now_s: float) -> PathHealth:
    for _ in range(MISSES):
        health = health.noted(Role.VF, reachable=False, now_s=now_s)
    return health


def test_one_silent_round_is_forgiven_and_two_are_not() -> None:
    health = PathHealth(hold_down_s=30).noted(Role.VF, reachable=False, now_s=0)
    assert not health.avoided(0)
    assert left(PathHealth(hold_down_s=30), 0).avoided(29)


def test_an_answer_in_between_starts_the_count_anew() -> None:
    health = PathHealth(hold_down_s=30)
    for reachable in (False, True, False, True, False):
        health = health.noted(Role.VF, reachable=reachable, now_s=0)
    assert not health.avoided(0)


def test_the_hold_down_doubles_with_each_failure_in_a_row_up_to_a_bound() -> None:
    health, now_s, lasted = PathHealth(hold_down_s=30), 0.0, []
    for _ in range(10):
        health = left(health, now_s)
        lasted.append(health.last_hold_down_s)
        now_s += health.last_hold_down_s
        assert not health.avoided(now_s)
    assert lasted[:4] == [30, 60, 120, 240]
    assert lasted[-1] == MAX_HOLD_DOWN_S


def test_a_vf_that_has_proven_itself_is_trusted_as_at_first() -> None:
    health = left(left(PathHealth(hold_down_s=30), 0), 30)
    for now_s in (100.0, 130.0, 160.0):
        health = health.noted(Role.VF, reachable=True, now_s=now_s)
    assert left(health, 200).last_hold_down_s == 30


def test_silence_on_the_standby_says_nothing_of_the_vf() -> None:
    health = PathHealth(hold_down_s=30)
    for _ in range(5):
        health = health.noted(Role.STANDBY, reachable=False, now_s=0)
    assert not health.avoided(0)


def test_a_round_through_a_path_that_moved_meanwhile_is_not_judged() -> None:
    async def run() -> frozenset[str]:
        paths = watch(lambda: 0.0, reached=False)
        gone = WatchedPair(mac=MAC, bond="bond0", ifindex=4, role=Role.STANDBY)
        for _ in range(MISSES):
            await paths._round(gone)
        return paths.avoided()

    assert asyncio.run(run()) == frozenset()


def test_another_vf_is_not_avoided_for_the_path_of_its_predecessor() -> None:
    vfs = [3]

    async def run() -> list[frozenset[str]]:
        paths = watch(lambda: 0.0, reached=False, pairs=lambda: on_vf(vfs[0]))
        for _ in range(MISSES):
            await paths._round(*on_vf(vfs[0]))
        found = [paths.avoided()]
        vfs[0] = 7  # as after a migration
        return [*found, paths.avoided()]

    assert asyncio.run(run()) == [{MAC}, frozenset()]


def test_an_avoided_vf_leaves_the_traffic_to_the_standby_and_status_says_why() -> None:
    system = FakeSystem()
    standby = system.kernel.plug("ens2", MAC, driver="virtio_net")
    system.kernel.plug("ens3", MAC)
    system.engine().converge()
    system.engine().converge(avoided=frozenset({MAC}))
    state = system.kernel.named("bond0").bond
    assert state is not None
    assert state.active == standby
