"""Contract of a VF pool: claims that hold for the fake and for the real one.

A claim gets a host whose PF ``pf0`` (also ``physnet1``) has two free VFs, and two
pools on it, as two processes would have them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace

from guestagent.errors import GuestAgentError
from guestagent.host.sriov.base import NotLeasedError, NoVfError, VfPool
from guestagent.host.sriov.core.model import (
    CLEARED_MAC,
    NO_MAC,
    Lease,
    LeaseOwner,
    LinkState,
    VfSettings,
    VfState,
    Want,
)

MAC = "52:54:00:aa:00:01"
SETTINGS = VfSettings(mac=MAC, vlan=7, qos=3, spoof_check=False, link_state=LinkState.AUTO)
WEB1 = LeaseOwner(vm="web1", operation="one")
WEB2 = LeaseOwner(vm="web2", operation="two")


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One host through two pools; ``pf`` is the name of its PF, ``vfs`` its VFs' addresses."""

    pool: VfPool
    other: VfPool
    pf: str
    vfs: tuple[str, ...]

    async def state(self, vf: str) -> VfState:
        """Return the values of a VF that the PF reports now."""
        found = (await self.other.inventory()).vf(vf)
        assert found is not None
        assert found[1].state is not None
        return found[1].state

    async def holders(self) -> dict[str, str | None]:
        """Return the owner of each VF."""
        inventory = await self.other.inventory()
        return {vf.address: vf.holder for pf in inventory.pfs for vf in pf.vfs}

    async def any(self, owner: LeaseOwner) -> Lease:
        """Claim whichever VF of the PF is free."""
        return await self.pool.claim(Want(pfs=(self.pf,)), owner)


Claim = Callable[[Host], Coroutine[None, None, None]]
CLAIMS: dict[str, Claim] = {}


def claim(function: Claim) -> Claim:
    """Count a function among the claims."""
    CLAIMS[function.__name__] = function
    return function


async def refused(kind: type[GuestAgentError], request: Awaitable[object]) -> str:
    """Return the words of an error that must come."""
    try:
        await request
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")


def clear(state: VfState) -> bool:
    """Whether nothing of a tenant can be seen."""
    return state.mac in {NO_MAC, CLEARED_MAC} and (state.vlan, state.qos) == (0, 0)


@claim
async def the_inventory_shows_free_vfs(host: Host) -> None:
    (pf,) = [pf for pf in (await host.pool.inventory()).pfs if host.pf in pf.names]
    assert tuple(vf.address for vf in pf.vfs) == host.vfs
    assert [vf.holder for vf in pf.vfs] == [None] * len(host.vfs)
    assert pf.up


@claim
async def a_claim_is_seen_by_others_and_touches_nothing(host: Host) -> None:
    before = await host.state(host.vfs[0])
    lease = await host.pool.claim(Want(vf=host.vfs[0]), WEB1)
    assert (lease.vf, lease.pf_name, lease.owner) == (host.vfs[0], host.pf, WEB1)
    assert lease.prior == before == await host.state(host.vfs[0])
    assert await host.other.leases("web1") == (lease,)
    assert await host.other.leases("web2") == ()
    assert (await host.holders())[host.vfs[0]] == "lease of web1 (one)"


@claim
async def no_vf_is_claimed_twice(host: Host) -> None:
    leases = [await host.any(WEB1), await host.other.claim(Want(pfs=(host.pf,)), WEB2)]
    assert {lease.vf for lease in leases} == set(host.vfs)
    text = await refused(NoVfError, host.any(LeaseOwner(vm="web3", operation="three")))
    assert "web1 (one)" in text
    assert "web2 (two)" in text


@claim
async def a_claim_may_be_repeated_by_its_owner_alone(host: Host) -> None:
    want = Want(vf=host.vfs[1])
    assert await host.pool.claim(want, WEB1) == await host.other.claim(want, WEB1)
    await refused(NoVfError, host.other.claim(want, WEB2))


@claim
async def an_absent_vf_cannot_be_claimed(host: Host) -> None:
    assert "nonet" in await refused(NoVfError, host.pool.claim(Want(pfs=("nonet",)), WEB1))
    absent = Want(vf="0000:ff:1f.7")
    assert "0000:ff:1f.7" in await refused(NoVfError, host.pool.claim(absent, WEB1))
    large = Want(pfs=(host.pf,), mtu=60000)
    assert "60000" in await refused(NoVfError, host.pool.claim(large, WEB1))
    assert await host.pool.leases() == ()


@claim
async def programmed_values_are_read_from_the_pf(host: Host) -> None:
    lease = await host.pool.program(await host.any(WEB1), SETTINGS)
    state = await host.state(lease.vf)
    assert (state.mac, state.vlan, state.qos) == (MAC, 7, 3)
    assert state.spoof_check in {False, None}
    assert lease.settings == SETTINGS
    assert await host.other.leases("web1") == (lease,)


@claim
async def vlan_zero_is_written_too(host: Host) -> None:
    lease = await host.pool.program(await host.any(WEB1), SETTINGS)
    await host.pool.program(lease, replace(SETTINGS, vlan=0, qos=0))
    assert (await host.state(lease.vf)).vlan == 0


@claim
async def a_withdrawn_vf_stays_leased_and_has_no_mac(host: Host) -> None:
    lease = await host.pool.program(await host.any(WEB1), SETTINGS)
    lease = await host.pool.withdraw(lease)
    assert (await host.state(lease.vf)).mac in {NO_MAC, CLEARED_MAC}
    assert await host.other.leases("web1") == (lease,)
    again = await host.pool.withdraw(lease)
    assert again.settings is not None
    back = await host.pool.program(again, again.settings)
    assert (await host.state(back.vf)).mac == MAC


@claim
async def a_released_vf_is_as_it_was(host: Host) -> None:
    lease = await host.any(WEB1)
    before = await host.state(lease.vf)
    lease = await host.pool.settle(await host.pool.program(lease, SETTINGS))
    await host.pool.release(lease)
    after = await host.state(lease.vf)
    assert clear(after)
    assert replace(after, mac=before.mac) == before
    assert await host.other.leases() == ()
    assert (await host.holders())[lease.vf] is None
    await host.other.release(lease)


@claim
async def another_process_can_end_a_lease(host: Host) -> None:
    await host.pool.program(await host.any(WEB1), SETTINGS)
    (left,) = await host.other.leases("web1")
    await host.other.release(left)
    assert await host.pool.leases() == ()
    assert clear(await host.state(left.vf))


@claim
async def an_ended_lease_is_refused(host: Host) -> None:
    lease = await host.pool.claim(Want(vf=host.vfs[0]), WEB1)
    await host.pool.release(lease)
    await refused(NotLeasedError, host.pool.program(lease, SETTINGS))
    theirs = await host.other.claim(Want(vf=host.vfs[0]), WEB2)
    await refused(NotLeasedError, host.pool.withdraw(lease))
    await host.pool.release(lease)
    assert await host.other.leases() == (theirs,)


@claim
async def an_adopted_vf_is_cleared_by_its_release(host: Host) -> None:
    used = await host.pool.program(await host.any(WEB1), SETTINGS)
    later = LeaseOwner(vm="web1", operation="later")
    lease = await host.other.adopt(used.vf, later, SETTINGS)
    assert lease.owner == later
    await refused(NotLeasedError, host.pool.withdraw(used))
    await refused(NoVfError, host.pool.adopt(used.vf, WEB2, SETTINGS))
    await host.other.release(await host.other.withdraw(lease))
    assert clear(await host.state(used.vf))


@claim
async def a_vf_without_a_lease_can_be_adopted(host: Host) -> None:
    lease = await host.pool.adopt(host.vfs[0], WEB1, SETTINGS)
    assert lease.prior is None
    assert await host.pool.adopt(host.vfs[0], WEB1, SETTINGS) == lease
    await refused(NoVfError, host.other.claim(Want(vf=host.vfs[0]), WEB2))
    await host.pool.release(lease)
    assert clear(await host.state(host.vfs[0]))
