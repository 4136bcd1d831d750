"""Hiding VFs from cloud-init: which, for how long, and what ends it."""

from __future__ import annotations

import errno
import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from guestagent.guest.core.link import Link
from guestagent.guest.core.policy import Policy
from guestagent.guest.kernel.namespace import HidingKernel
from guestagent.guest.kernel.protocol import KernelError
from guestagent.guest.service.first_boot import (
    LIMIT_S,
    CloudInit,
    Hider,
    hide_until_done,
    visible_vfs,
)
from tests.fakes.kernel import FakeKernel

MAC, OTHER = "52:54:00:5a:00:00", "52:54:00:5a:00:01"


@dataclass
class Sight(HidingKernel):
    """A kernel that hides links and may refuse to."""

    nics: FakeKernel
    refuses: set[int] = field(default_factory=set)
    hidden: list[int] = field(default_factory=list)
    asked: int = 0

    def links(self) -> tuple[Link, ...]:
        return tuple(link for link in self.nics.links() if link.ifindex not in self.hidden)

    def hide(self, ifindex: int) -> None:
        self.asked += 1
        if ifindex in self.refuses:
            raise KernelError(f"could not hide link {ifindex}", errno.EINVAL)
        self.hidden.append(ifindex)


@dataclass
class Boot:
    """A boot under cloud-init: what it has written, and what time it is."""

    run: Path
    sight: Sight
    now_s: float = 0.0
    hider: Hider = field(init=False)

    def __post_init__(self) -> None:
        self.hider = Hider(
            kernel=self.sight,
            cloud_init=CloudInit(self.run),
            policy=Policy(),
            clock=lambda: self.now_s,
        )

    def end_network_stage(self) -> None:
        status = {"v1": {"init": {"start": 1.0, "finished": 2.0}}}
        (self.run / "status.json").write_text(json.dumps(status))

    def end(self) -> None:
        (self.run / "result.json").write_text("{}")


@pytest.fixture
def boot(tmp_path: Path) -> Boot:
    nics = FakeKernel()
    nics.plug("ens1", MAC, driver="virtio_net")
    return Boot(tmp_path, Sight(nics))


def test_the_vf_of_a_pair_is_hidden_and_its_standby_is_not(boot: Boot) -> None:
    vf = boot.sight.nics.plug("ens2", MAC)
    boot.sight.nics.plug("ens3", OTHER)
    assert boot.hider.look()
    assert boot.sight.hidden == [vf]


def test_nics_that_are_no_clear_pair_are_left_alone() -> None:
    nics = FakeKernel()
    for name in ("ens2", "ens3"):
        nics.plug(name, MAC)
    nics.plug("ens1", MAC, driver="virtio_net")
    assert visible_vfs(nics.links(), Policy()) == ()
    pair = FakeKernel()
    pair.plug("ens1", MAC, driver="virtio_net")
    pair.plug("ens2", MAC)
    assert visible_vfs(pair.links(), Policy(excluded=frozenset({MAC}))) == ()
    assert len(visible_vfs(pair.links(), Policy())) == 1


def test_a_vf_that_is_plugged_in_the_network_stage_is_hidden_and_a_later_one_is_not(
    boot: Boot,
) -> None:
    assert boot.hider.look()
    early = boot.sight.nics.plug("ens2", MAC)
    assert boot.hider.look()
    assert boot.sight.hidden == [early]
    boot.end_network_stage()
    boot.sight.nics.plug("ens4", OTHER, driver="virtio_net")
    boot.sight.nics.plug("ens5", OTHER)
    assert boot.hider.look(), "the first one stays hidden until the end"
    assert boot.sight.hidden == [early]


def test_the_end_of_cloud_init_ends_it(boot: Boot) -> None:
    boot.sight.nics.plug("ens2", MAC)
    hide_until_done(boot.hider, boot.end)
    assert len(boot.sight.hidden) == 1
    assert not boot.hider.look()


def test_nothing_is_hidden_for_longer_than_the_limit(boot: Boot) -> None:
    boot.sight.nics.plug("ens2", MAC)
    assert boot.hider.look()
    boot.now_s = LIMIT_S - 1
    assert boot.hider.look()
    boot.now_s = LIMIT_S
    assert not boot.hider.look()


def test_a_vf_that_cannot_be_hidden_is_tried_once_and_the_others_are_hidden(
    boot: Boot,
) -> None:
    odd = boot.sight.nics.plug("ens2", MAC)
    boot.sight.nics.plug("ens4", OTHER, driver="virtio_net")
    other = boot.sight.nics.plug("ens5", OTHER)
    boot.sight.refuses.add(odd)
    assert boot.hider.look()
    assert boot.hider.look()
    assert (boot.sight.hidden, boot.sight.asked) == ([other], 2)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"v1": 1}', '{"v1": {}}', '{"v1": {"init": {"finished": null}}}'],
)
def test_an_invalid_status_does_not_end_the_hiding(tmp_path: Path, content: str) -> None:
    (tmp_path / "status.json").write_text(content)
    assert not CloudInit(tmp_path).network_stage_is_over
