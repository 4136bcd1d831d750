"""Claims, programs and gives back the VFs of an operation, through the pools of both hosts.

A lease carries in its owner which device of which side of which operation it
is for, so nothing about it has to be remembered here: after a crash the pools
say what is held, and every step may be repeated.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping

from guestagent.errors import (
    GuestAgentError,
)
from guestagent.host.hypervisor.base import RefusedError
from guestagent.host.migration.state import (
    ClaimVfs,
    Cleanup,
    ConfigureVf,
    Event,
    NoVfAvailable,
    ResetVfs,
    State,
    Succeeded,
)
from guestagent.host.model import End, PairConfig, Vm
from guestagent.host.run.events import FAILED, event_of
from guestagent.host.sriov.base import NoVfError, VfPool
from guestagent.host.sriov.core.choose import held
from guestagent.host.sriov.core.model import Lease, LeaseOwner, Provision, Standby

log = logging.getLogger(__name__)

Warnings = tuple[str, ...]


class VfProvisioner:
    """The ``Provider`` of one VM; ``pools`` has the VFs of each side's host."""

    def __init__(self, vm: Vm, pools: Mapping[End, VfPool]) -> None:
        self._vm = vm
        self._pools = pools

    async def perform(
        self, effect: ClaimVfs | ResetVfs | ConfigureVf | Cleanup, state: State
    ) -> Event:
        """See ``driver.Provider``."""
        match effect:
            case ClaimVfs():
                return await self._reserve(effect, state)
            case ResetVfs(vfs=vfs):
                return await event_of(self._withdraw(vfs, state))
            case ConfigureVf(end=end, vf=vf):
                return await event_of(self._program(end, vf, state))
            case Cleanup():
                return await event_of(self._tidy(effect, state))

    async def address(self, end: End, vf: str, operation: str) -> str:
        """See ``driver.Provider``."""
        return (await self._lease(end, vf, operation)).vf

    async def open_standbys(self, end: End) -> None:
        """See ``driver.Provider``."""
        try:
            await self._each_standby(end, lambda pool: pool.open_standby)
        except FAILED as error:
            self._tell([f"the way to the standby is not open yet: {error}"])

    async def _reserve(self, effect: ClaimVfs, state: State) -> Event:
        lacking: dict[str, str] = {}
        event = await event_of(self._take(effect, state, lacking))
        if lacking and isinstance(event, Succeeded):
            return NoVfAvailable(vfs=tuple(lacking), detail="; ".join(lacking.values()))
        return event

    async def _take(self, effect: ClaimVfs, state: State, lacking: dict[str, str]) -> None:
        """Claim every VF; the ones of which there is none free are noted in ``lacking``."""
        for vf in effect.in_use:
            await self._adopt(state.home, vf, state)
        for vf in effect.wanted:
            try:
                await self._claim(state.target, vf, state)
            except NoVfError as error:
                lacking[vf] = f"{vf}: {error}"

    async def _adopt(self, end: End, vf: str, state: State) -> None:
        """Take the lease on a VF that the guest has: the described one, or that of its MAC."""
        provision = self._provision(end, vf)
        owner = self._owner(end, vf, state.operation)
        address = provision.want.vf
        if address is None:
            mac = provision.settings.mac
            lease = (await self._pools[end].inventory()).lease_for(self._vm.name, mac)
            address = None if lease is None else lease.vf
        if address is None:
            raise RefusedError(
                f"{end}: which VF {vf} is cannot be told: it has no host in the description and"
                f" {self._vm.name} has no lease with its MAC address"
            )
        await self._pools[end].adopt(address, owner, provision.settings)

    async def _claim(self, end: End, vf: str, state: State) -> None:
        """Claim a VF; one that waits for this device since an earlier claim is taken first."""
        owner = self._owner(end, vf, state.operation)
        if await self._find(end, owner) is not None:
            return
        pool, provision, mac = (
            self._pools[end],
            self._provision(end, vf),
            self._pair(end, vf).mac,
        )
        own = held(
            await pool.inventory(),
            provision.want,
            lambda other: other.is_for(self._vm.name, end, vf, mac),
        )
        if own is not None and own.vf is not None:
            await pool.adopt(own.vf.address, owner, provision.settings)
        else:
            await pool.claim(provision.want, owner)

    async def _withdraw(self, vfs: tuple[str, ...], state: State) -> None:
        for vf in vfs:
            lease = await self._lease(state.home, vf, state.operation)
            self._tell((await self._pools[state.home].withdraw(lease)).warnings)
        if state.target is not state.home:
            await self._each_standby(state.target, lambda pool: pool.open_standby)

    async def _program(self, end: End, vf: str, state: State) -> None:
        lease = await self._lease(end, vf, state.operation)
        programmed = await self._pools[end].program(lease, self._provision(end, vf).settings)
        self._tell(programmed.warnings)

    async def _tidy(self, effect: Cleanup, state: State) -> None:
        """Settle what the guest uses and release the rest; every VF and both hosts are tried.

        The standby's path is closed where the guest is not: the PF of the host that it
        left would take its neighbours' frames for ever. It stays open where the guest
        is without a VF; both may be one host, so that comes last. And it stays open where
        the guest was asked whether it uses its VFs and did not say so: it may be on the
        standby for as long as its agent is dead; and where a request to release the VF
        stays with the guest. The next operation to which it says so closes it; one that
        ends before it has asked leaves it as it is.
        """
        nobody_to_ask = effect.end not in state.reachable
        staying = tuple(vf for vf in effect.used if vf not in state.unplug_pending)
        settled = staying if state.confirmed or nobody_to_ask else ()
        left = () if state.confirmed is False else staying
        failures: list[GuestAgentError] = []
        for end in {state.home, state.target} - {effect.end}:
            with _noted(failures):
                await self._end_leases(end, state, failures)
                await self._each_standby(end, lambda pool: pool.close_standby)
        with _noted(failures):
            await self._end_leases(effect.end, state, failures, used=effect.used, settled=settled)
        with _noted(failures):
            await self._each_standby(effect.end, lambda pool: pool.open_standby, but=left)
        self._tell(str(failure) for failure in failures[1:])
        if failures:
            raise failures[0]

    async def _end_leases(
        self,
        end: End,
        state: State,
        failures: list[GuestAgentError],
        *,
        used: Collection[str] = (),
        settled: Collection[str] = (),
    ) -> None:
        """Release every lease of this operation but those on VFs in use; settle some of these."""
        pool = self._pools[end]
        for vf in (device.id for device in self._vm.vfs_on(end)):
            if self._pair(end, vf).sriov_on(end) is None:
                continue
            lease = await self._find(end, self._owner(end, vf, state.operation))
            with _noted(failures):
                if lease is not None and vf not in used:
                    self._tell(await pool.release(lease))
                elif lease is not None and vf in settled:
                    self._tell((await pool.settle(lease)).warnings)

    async def _each_standby(
        self,
        end: End,
        method: Callable[[VfPool], Callable[[Standby], Awaitable[Warnings]]],
        *,
        but: Collection[str] = (),
    ) -> None:
        """Do it for the standby of each pair, but for those whose VF is one of ``but``."""
        for pair in self._vm.pairs:
            provision, vf = pair.sriov_on(end), pair.vf_on(end)
            if vf is not None and vf.id in but:
                continue
            if provision is not None and provision.settings.standby is not None:
                self._tell(await method(self._pools[end])(provision.settings.standby))

    async def _lease(self, end: End, vf: str, operation: str) -> Lease:
        lease = await self._find(end, self._owner(end, vf, operation))
        if lease is None:
            raise RefusedError(f"{end}: {self._vm.name} has no VF claimed for {vf}")
        return lease

    async def _find(self, end: End, owner: LeaseOwner) -> Lease | None:
        held = await self._pools[end].leases(owner.vm)
        return next((lease for lease in held if lease.owner == owner), None)

    def _owner(self, end: End, vf: str, operation: str) -> LeaseOwner:
        return LeaseOwner.in_operation(self._vm.name, operation, end, vf)

    def _pair(self, end: End, vf: str) -> PairConfig:
        for pair in self._vm.pairs:
            device = pair.vf_on(end)
            if device is not None and device.id == vf:
                return pair
        raise RefusedError(f"{end}: {vf} is not described")

    def _provision(self, end: End, vf: str) -> Provision:
        provision = self._pair(end, vf).sriov_on(end)
        if provision is None:
            raise RefusedError(f"{end}: nothing describes how {vf} is claimed")
        return provision

    def _tell(self, warnings: Iterable[str]) -> None:
        for warning in warnings:
            log.warning("%s: %s", self._vm.name, warning, extra={"MIGRATION": self._vm.name})


@contextlib.contextmanager
def _noted(failures: list[GuestAgentError]) -> Iterator[None]:
    """Go on after a step that failed."""
    try:
        yield
    except FAILED as error:
        failures.append(error)
