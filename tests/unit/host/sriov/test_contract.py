"""The fake pool of VFs does what the real one does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from guestagent.host.sriov.pool import SriovPool
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
        pools = [SriovPool(tree.pool), SriovPool(tree.pool)]
        try:
            vfs = (vf_address(0, 0), vf_address(0, 1))
            await CLAIMS[claim](Host(pool=pools[0], other=pools[1], pf="pf0", vfs=vfs))
        finally:
            for pool in pools:
                await pool.close()

    asyncio.run(hold())
