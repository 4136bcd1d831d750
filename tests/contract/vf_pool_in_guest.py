"""Runs the claims against real PFs and VFs, with leases of its own for each.

Prints one JSON object: for each claim None, or how it failed. Two VFs and vfio
must be there; the argument is the name of the PF.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import traceback
from pathlib import Path

from guestagent.host.sriov.pool import host_pool
from tests.contract.vf_pool import CLAIMS, Claim, Host


async def hold(claim: Claim, pf: str, state_dir: Path) -> None:
    """Hold one claim, and give back whatever it leaves."""
    pool, other = host_pool(state_dir), host_pool(state_dir)
    try:
        listed = (await pool.inventory()).pfs
        vfs = tuple(vf.address for each in listed if each.name == pf for vf in each.vfs)
        await claim(Host(pool=pool, other=other, pf=pf, vfs=vfs))
    finally:
        for lease in await other.leases():
            await other.release(lease)
        await pool.close()
        await other.close()


def run(claim: Claim, pf: str) -> str | None:
    """Return how a claim fails, or None."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            asyncio.run(hold(claim, pf, Path(directory)))
        except Exception:  # noqa: BLE001 - whatever it is, it is the result
            return traceback.format_exc()
    return None


if __name__ == "__main__":
    print(json.dumps({name: run(claim, sys.argv[1]) for name, claim in CLAIMS.items()}))
