"""The VF effects of an operation: claim, reset, configure, clean up; on the pools of both hosts.

The owner of a lease names the operation, the end and the device, so nothing is remembered here:
after a crash the pools show the leases, and every step may be repeated.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum, auto

from guestagent.errors import GuestAgentError
from guestagent.host.hypervisor.base import RefusedError
from guestagent.host.migration.effects import ClaimVfs, Cleanup, ConfigureVf, PoolEffect, ResetVfs
from guestagent.host.migration.events import Event, NoVfAvailable, Succeeded
from guestagent.host.migration.state import State
from guestagent.host.model import End, PairConfig, Vm
from guestagent.host.run.events import FAILED, event_of
from guestagent.host.sriov.base import NoVfError, VfPool
from guestagent.host.sriov.core.choose import held
from guestagent.host.sriov.core.model import Lease, LeaseOwner, Provision

log = logging.getLogger(__name__)


class LeaseAction(Enum):
    """The end of a lease in TIDY; SETTLE closes the forwarding to the standby."""

    RELEASE = auto()
    SETTLE = auto()
    KEEP = auto()


class StandbyAction(Enum):
    """Whether the host forwards traffic for the MAC to the standby, after TIDY."""

    OPEN = auto()
    CLOSE = auto()
    KEEP = auto()


class Use(Enum):
    """The use of a VF at the end of an operation.

    ELSEWHERE: the guest is at the other end. UNUSED: the guest does not have the VF. USED: it
    confirmed that it uses the VF, or no way to its agent is described. NOT_ASKED: the operation
    ended before the guest was asked. UNSURE: the guest did not confirm, or has a request to
    release the VF that it may follow later.
    """

    ELSEWHERE = auto()
    UNUSED = auto()
    USED = auto()
    NOT_ASKED = auto()
    UNSURE = auto()


CLEANUP: Mapping[Use, tuple[LeaseAction, StandbyAction]] = {
    # The PF of the host that the guest left would take its neighbours' frames for ever.
    Use.ELSEWHERE: (LeaseAction.RELEASE, StandbyAction.CLOSE),
    Use.UNUSED: (LeaseAction.RELEASE, StandbyAction.OPEN),
    Use.USED: (LeaseAction.SETTLE, StandbyAction.KEEP),
    # The next operation that the guest confirms closes the forwarding.
    Use.NOT_ASKED: (LeaseAction.KEEP, StandbyAction.KEEP),
    # The guest may be on its standby for as long as its agent is dead.
    Use.UNSURE: (LeaseAction.KEEP, StandbyAction.OPEN),
}


def _use_of(end: End, pair: PairConfig, effect: Cleanup, state: State) -> Use:
    vf = pair.vf_on(end)
    if end is not effect.end:
        return Use.ELSEWHERE
    if vf is None or vf.id not in effect.used:
        return Use.UNUSED
    if vf.id in state.unplug_pending or state.confirmed is False:
        return Use.UNSURE
    asked = state.confirmed is not None or effect.end in state.reachable
    return Use.USED if state.confirmed or not asked else Use.NOT_ASKED


class VfProvisioner:
    """The VFs of one VM that this program claims and programs; ``pools`` are those of each end."""

    def __init__(self, vm: Vm, pools: Mapping[End, VfPool]) -> None:
        self._vm = vm
        self._pools = pools

    async def perform(self, effect: PoolEffect, state: State) -> Event:
        """Perform an effect and return its result; may be repeated."""
        match effect:
            case ClaimVfs():
                return await self._reserve(effect, state)
            case ResetVfs(vfs=vfs):
                return await event_of(self._withdraw(vfs, state))
            case ConfigureVf(end=end, vf=vf):
                return await event_of(self._program(end, vf, state))
            case Cleanup():
                return await event_of(self._clean_up(effect, state))

    async def address(self, end: End, vf: str, operation: str) -> str:
        """Return the PCI address of the claimed VF. Raises RefusedError."""
        return (await self._lease(end, vf, operation)).vf

    async def open_standbys(self, end: End) -> None:
        """Have the host at ``end`` forward traffic between its network and the standbys.

        A failure is only a warning: ResetVfs does it again. Does nothing where this program
        manages no VF.
        """
        if end not in self._pools:
            return
        try:
            await self._open_standbys(end)
        except FAILED as error:
            self._warn([f"traffic is not forwarded to the standby yet: {error}"])

    async def _reserve(self, effect: ClaimVfs, state: State) -> Event:
        lacking: dict[str, str] = {}
        event = await event_of(self._take(effect, state, lacking))
        if lacking and isinstance(event, Succeeded):
            return NoVfAvailable(vfs=tuple(lacking), detail="; ".join(lacking.values()))
        return event

    async def _take(self, effect: ClaimVfs, state: State, lacking: dict[str, str]) -> None:
        """Claim every VF; ``lacking`` gets the reason for each that is not available."""
        for vf in effect.in_use:
            await self._adopt(state.home, vf, state)
        for vf in effect.wanted:
            try:
                await self._claim(state.target, vf, state)
            except NoVfError as error:
                lacking[vf] = f"{vf}: {error}"

    async def _adopt(self, end: End, vf: str, state: State) -> None:
        """Take the lease on a VF in use: the described one, or the one with the pair's MAC."""
        provision = self._provision(end, vf)
        owner = self._owner(end, vf, state.operation)
        address = provision.want.vf
        if address is None:
            mac = provision.settings.mac
            lease = (await self._pools[end].inventory()).lease_for(self._vm.name, mac)
            address = None if lease is None else lease.vf
        if address is None:
            raise RefusedError(
                f"{end}: the VF of {vf} is not known: it has no host in the description and"
                f" {self._vm.name} has no lease with its MAC address"
            )
        await self._pools[end].adopt(address, owner, provision.settings)

    async def _claim(self, end: End, vf: str, state: State) -> None:
        """Claim a VF, preferably the one that an earlier claim reserved for this device."""
        owner = self._owner(end, vf, state.operation)
        if await self._find(end, owner) is not None:
            return
        pool, provision = self._pools[end], self._provision(end, vf)
        mac = self._pair(end, vf).mac
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
            self._warn((await self._pools[state.home].withdraw(lease)).warnings)
        if state.target is not state.home:
            await self._open_standbys(state.target)

    async def _program(self, end: End, vf: str, state: State) -> None:
        lease = await self._lease(end, vf, state.operation)
        programmed = await self._pools[end].program(lease, self._provision(end, vf).settings)
        self._warn(programmed.warnings)

    async def _clean_up(self, effect: Cleanup, state: State) -> None:
        """Do what CLEANUP says for every VF, whatever fails, and raise the first failure.

        The guest's end comes last: both ends may be one host, where a standby that is closed
        for the one end is opened for the other.
        """
        failures: list[GuestAgentError] = []
        for end in sorted({state.home, state.target}, key=lambda end: end is effect.end):
            managed = [pair for pair in self._vm.pairs if pair.sriov_on(end) is not None]
            actions = [CLEANUP[_use_of(end, pair, effect, state)] for pair in managed]
            for pair, (lease_action, _) in zip(managed, actions, strict=True):
                with _noted(failures):
                    await self._end_lease(end, pair, lease_action, state.operation)
            for pair, (_, standby_action) in zip(managed, actions, strict=True):
                with _noted(failures):
                    await self._standby(end, pair, standby_action)
        self._warn(str(failure) for failure in failures[1:])
        if failures:
            raise failures[0]

    async def _end_lease(
        self, end: End, pair: PairConfig, action: LeaseAction, operation: str
    ) -> None:
        vf, pool = pair.vf_on(end), self._pools[end]
        lease = None if vf is None else await self._find(end, self._owner(end, vf.id, operation))
        if lease is not None and action is LeaseAction.RELEASE:
            self._warn(await pool.release(lease))
        elif lease is not None and action is LeaseAction.SETTLE:
            self._warn((await pool.settle(lease)).warnings)

    async def _open_standbys(self, end: End) -> None:
        for pair in self._vm.pairs:
            await self._standby(end, pair, StandbyAction.OPEN)

    async def _standby(self, end: End, pair: PairConfig, action: StandbyAction) -> None:
        provision = pair.sriov_on(end)
        standby = None if provision is None else provision.settings.standby
        if standby is not None and action is StandbyAction.OPEN:
            self._warn(await self._pools[end].open_standby(standby))
        elif standby is not None and action is StandbyAction.CLOSE:
            self._warn(await self._pools[end].close_standby(standby))

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
            raise RefusedError(f"{end}: {vf} has no [pair.sriov]")
        return provision

    def _warn(self, warnings: Iterable[str]) -> None:
        for warning in warnings:
            log.warning("%s: %s", self._vm.name, warning, extra={"MIGRATION": self._vm.name})


@contextlib.contextmanager
def _noted(failures: list[GuestAgentError]) -> Iterator[None]:
    """Continue after a step that failed."""
    try:
        yield
    except FAILED as error:
        failures.append(error)
