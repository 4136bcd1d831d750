"""The service's loop, on a guest in memory."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from guestagent.guest.core.policy import Policy
from guestagent.guest.kernel.protocol import KernelError
from guestagent.guest.service import agent
from guestagent.guest.service.agent import Agent
from guestagent.guest.state.holds import Holds
from tests.fakes.system import FakeSystem

MAC = "52:54:00:00:00:01"
LIMIT_S = 60.0


def pair(system: FakeSystem) -> None:
    system.kernel.plug("ens2", MAC, driver="virtio_net")
    system.kernel.plug("ens3", MAC)


def served(system: FakeSystem, directory: Path, story: Callable[[Agent], Awaitable[None]]) -> None:
    """Serve for as long as the story takes; raises what ends the service before."""

    async def both() -> None:
        it = Agent(policy=Policy(), make_engine=system.engine, stability=system.stability)
        it.holds = Holds(directory)
        serving = asyncio.ensure_future(it.serve())
        try:
            await story(it)
            it.stop()
            await serving
        finally:
            serving.cancel()
            await it.close()

    asyncio.run(asyncio.wait_for(both(), LIMIT_S))


def test_a_request_does_not_wait_for_the_backoff_of_an_earlier_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "BACKOFF_S", (10 * LIMIT_S,))
    system = FakeSystem()
    pair(system)
    system.kernel.refuse("set_upper", errno.EINVAL)

    async def story(it: Agent) -> None:
        assert (await it.latest()).error is not None
        assert (await it.converge()).error is None

    served(system, tmp_path, story)
    assert system.kernel.named("bond0").complete


def test_a_failed_observation_reports_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = FakeSystem()
    pair(system)
    system.kernel.refuse("set_upper", errno.EINVAL)

    def blind() -> None:
        raise KernelError("could not list links", errno.ENOBUFS)

    async def story(it: Agent) -> None:
        assert (await it.latest()).failed == {"bond0"}
        monkeypatch.setattr(system.kernel, "links", blind)
        outcome = await it.converge()
        assert "list links" in str(outcome.error)
        assert outcome.failed == frozenset()

    served(system, tmp_path, story)


def test_a_failed_part_ends_the_service(tmp_path: Path) -> None:
    async def breaks() -> None:
        raise RuntimeError("the channel to the host")

    async def story(it: Agent) -> None:
        await it.latest()
        it.background(breaks())
        await it._stopping.wait()

    with pytest.raises(RuntimeError, match="the channel to the host"):
        served(FakeSystem(), tmp_path, story)
