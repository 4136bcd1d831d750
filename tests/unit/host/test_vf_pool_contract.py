"""The fake pool of VFs does what the real one does."""

from __future__ import annotations

import asyncio

import pytest

from tests.contract.vf_pool import CLAIMS, Host
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
