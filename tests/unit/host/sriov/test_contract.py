"""The fake pool of VFs does what the real one does."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from typing import get_type_hints

import pytest

from guestagent.forwarding import Call, calls_of
from guestagent.host.sriov.base import VfPool
from guestagent.host.sriov.pool import Pool, pool_in_thread
from tests.contract.vf_pool import CLAIMS, Host
from tests.fakes.hosttree import FakeHost, vf_address
from tests.fakes.sriov import FakeVfHost, FakeVfPool


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_fake_pool(claim: str) -> None:
    shared = FakeVfHost()
    host = Host(
        pool=FakeVfPool(shared),
        other=FakeVfPool(shared),
        pf=shared.pf_name,
        vfs=tuple(shared.states),
    )
    asyncio.run(CLAIMS[claim](host))


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_real_pool_on_a_tree_of_files(claim: str, tmp_path: Path) -> None:
    tree = FakeHost(root=tmp_path).build()

    async def hold() -> None:
        pools = [pool_in_thread(tree.pool), pool_in_thread(tree.pool)]
        try:
            vfs = (vf_address(0, 0), vf_address(0, 1))
            await CLAIMS[claim](Host(pool=pools[0], other=pools[1], pf="pf0", vfs=vfs))
        finally:
            for pool in pools:
                await pool.close()

    asyncio.run(hold())


@pytest.mark.parametrize("call", calls_of(VfPool).values(), ids=lambda call: str(call.method))
def test_the_pool_of_the_thread_has_the_operations_of_the_protocol(call: Call) -> None:
    method = getattr(Pool, call.method)
    _, *parameters = inspect.signature(method).parameters
    hints = get_type_hints(method)
    assert parameters == list(call.parameters)
    assert [hints[name] for name in parameters] == list(call.parameters.values())
    assert hints["return"] == call.result
