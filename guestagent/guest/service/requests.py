"""Requests to the running agent, on the control socket and on the channel to the host.

========  ===========================================  ===========================
request   arguments                                    result
========  ===========================================  ===========================
hello     none                                         version and requests known
status    after: a revision; timeout_s                 the status, versioned
switch    to: standby, vf or auto; bond; hold_s        the pairs concerned
announce  bond                                         frames sent at once
wait      active: vf or standby; bond; timeout_s       the pairs concerned
undo      bond                                         the pairs that are taken apart
adopt     bond                                         the pairs that are bonded again
========  ===========================================  ===========================

``bond`` is the name of a bond or the MAC of a pair; without it every pair is
meant. ``switch`` and ``wait`` are answered when the kernel was observed in the
requested state, never before; ``switch standby`` also waits until the VF has no
tx_backlog. With ``after``, ``status`` is answered when the revision has changed, or
when the time is up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, replace

from guestagent import __version__
from guestagent.clock import Deadline
from guestagent.errors import ConflictError, DeadlineError, GuestAgentError
from guestagent.guest.core.pair import Pair, Role
from guestagent.guest.core.pairing import pair_up
from guestagent.guest.kernel.sysfs import lost_carriers
from guestagent.guest.reconcile.engine import ConvergeResult
from guestagent.guest.report.status import Counts, PairStatus, Status, status
from guestagent.guest.service import undo
from guestagent.guest.service.agent import Agent
from guestagent.guest.service.undo import (
    adopt_targets,
    as_answer,
    is_torn_down,
    record_adopted,
    record_undone,
    undo_targets,
    undo_timeout,
)
from guestagent.guest.state.holds import DEFAULT_HOLD_S, MAX_HOLD_S
from guestagent.json_fields import JsonError, Obj
from guestagent.protocol import VERSION, Request

SWITCH_TIMEOUT_S = 10.0
DRAIN_TIMEOUT_S = 1.0
"""Longest wait for a VF's tx_backlog: a VF that has stopped transmitting never drains it."""
DRAIN_POLL_S = 0.01
MAX_WAIT_S = 300.0
SECOND_REQUEST_S = 5.0
_Answer = Mapping[str, object]
_log = logging.getLogger("guestagent.requests")


class Requests:
    """Answers requests; ``__call__`` is the handler of a stream."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        # From the clock, so that the revisions of an earlier agent are not repeated.
        self._revision = int(agent.history.started_at_s * 1000)
        self._revised: Status | None = None
        self._known: dict[str, Callable[[Obj], Awaitable[_Answer]]] = {
            "hello": self._hello,
            "status": self._status,
            "switch": self._switch,
            "announce": self._announce,
            "wait": self._wait,
            "undo": self._undo,
            "adopt": self._adopt,
        }

    async def __call__(self, request: Request) -> _Answer:
        """Return the result. Raises GuestAgentError with a hint."""
        known = self._known.get(request.name)
        if known is None:
            raise GuestAgentError(
                f"unknown request {request.name[:40]!r}",
                hint=f"this agent knows: {', '.join(self._known)}",
            )
        try:
            return await known(request.arguments)
        except JsonError as error:
            raise GuestAgentError(
                f"{request.name}: {error}", hint="correct the argument"
            ) from error
        except OSError as error:
            raise GuestAgentError(
                f"{request.name}: {error}",
                hint="check whether /run is full; `guestagent status` shows the pairs",
            ) from error

    async def _hello(self, _: Obj) -> _Answer:
        return {
            "agent": "guestagent",
            "version": __version__,
            "protocol": VERSION,
            "requests": list(self._known),
        }

    async def _status(self, arguments: Obj) -> _Answer:
        after = arguments.optional_integer("after")
        deadline = Deadline.after(_timeout_s("status", arguments))
        report = self._numbered(await self._agent.latest())
        while report.revision == after and not deadline.expired:
            try:
                # A convergence that has begun is not awaited: hence the second one, soon after.
                wait_s = max(min(deadline.remaining_s, SECOND_REQUEST_S), 0.001)
                await asyncio.wait_for(self._agent.next_result(), wait_s)
            except TimeoutError:
                pass
            report = self._numbered(await self._agent.latest())
        return report.as_json()

    def _numbered(self, result: ConvergeResult) -> Status:
        """Return the status with its revision, which grows when more than time has changed."""
        report = self._report(result)
        timeless = replace(report, pairs=tuple(replace(p, held_s=None) for p in report.pairs))
        if timeless != self._revised:
            self._revised = timeless
            self._revision += 1
        return replace(report, revision=self._revision)

    async def _switch(self, arguments: Obj) -> _Answer:
        wanted = arguments.string("to")
        if wanted not in {"standby", "vf", "auto"}:
            raise GuestAgentError(
                f"switch: to is {wanted[:40]!r}", hint="it must be standby, vf or auto"
            )
        pairs = self._chosen(await self._agent.latest(), arguments)
        if wanted == "standby":
            return await self._to_standby(pairs, _hold_s(arguments))
        return await self._to_policy(pairs, must_be_vf=wanted == "vf")

    async def _to_standby(self, pairs: tuple[Pair, ...], hold_s: float) -> _Answer:
        """Hold the pairs; end the new holds if the kernel does not follow."""
        for pair in pairs:
            _require_standby(pair)
        new = [pair.mac for pair in pairs if self._agent.holds.remaining_s(pair.mac) is None]
        try:
            for pair in pairs:
                self._agent.holds.hold(pair.mac, hold_s)
            answer = await self._reach(pairs, Role.STANDBY)
            await self._await_drained(pairs)
        except (GuestAgentError, OSError):
            for mac in new:
                self._agent.holds.end(mac)
            await self._agent.converge()
            raise
        return answer

    async def _await_drained(self, pairs: tuple[Pair, ...]) -> None:
        """Wait until the VFs have no tx_backlog, so that the host may unplug them."""
        vfs = frozenset(pair.vf.ifindex for pair in pairs if pair.vf is not None)
        deadline = Deadline.after(DRAIN_TIMEOUT_S)
        # There is no event for an empty queue.
        while await self._agent.tx_backlog(vfs):
            if deadline.expired:
                _log.warning(
                    "a VF does not transmit the packets queued before the switch; they are lost"
                )
                return
            await asyncio.sleep(DRAIN_POLL_S)

    async def _to_policy(self, pairs: tuple[Pair, ...], *, must_be_vf: bool) -> _Answer:
        for pair in pairs:
            if must_be_vf and pair.vf is None:
                raise ConflictError(
                    f"pair {pair.mac} has no VF", hint="plug one in, or use `switch auto`"
                )
            self._agent.holds.end(pair.mac)
            self._agent.paths.forget(pair.mac)
        if must_be_vf:
            return await self._reach(pairs, Role.VF)
        return self._answer(await self._agent.converge(), pairs)

    async def _reach(self, pairs: tuple[Pair, ...], role: Role) -> _Answer:
        result = await self._agent.converge()
        _raise_failure(result, {pair.bond.name if pair.bond else None for pair in pairs})
        return await self._await_side(result, pairs, role, Deadline.after(SWITCH_TIMEOUT_S))

    async def _announce(self, arguments: Obj) -> _Answer:
        pairs = self._chosen(await self._agent.latest(), arguments)
        return {"frames": await self._agent.announce(pairs)}

    async def _wait(self, arguments: Obj) -> _Answer:
        role = arguments.string("active")
        if role not in set(Role):
            raise GuestAgentError(
                f"wait: active is {role[:40]!r}", hint="it must be vf or standby"
            )
        deadline = Deadline.after(_timeout_s("wait", arguments))
        result, pairs = await self._await_pairs(arguments, deadline)
        return await self._await_side(result, pairs, Role(role), deadline)

    async def _undo(self, arguments: Obj) -> _Answer:
        """Take pairs apart; the answer comes when the kernel has none of their bonds any more."""
        result = await self._agent.latest()
        before = result.snapshot
        targets = undo_targets(before, self._agent.policy, arguments.optional_string("bond"))
        record_undone(self._agent.undone, targets.macs)
        deadline = Deadline.after(undo.TIMEOUT_S)
        result = await self._agent.converge()
        while not is_torn_down(result.snapshot, targets.macs):
            bonds = (result.snapshot.bond_of(mac) for mac in targets.macs)
            _raise_failure(result, {bond.name for bond in bonds if bond is not None})
            try:
                result = await self._next(deadline)
            except TimeoutError:
                raise undo_timeout(result) from None
        return as_answer(targets, before)

    async def _adopt(self, arguments: Obj) -> _Answer:
        """Bond undone pairs again; the answer is their state after the convergence."""
        snapshot = (await self._agent.latest()).snapshot
        macs = adopt_targets(snapshot, arguments.optional_string("bond"))
        record_adopted(self._agent.undone, macs)
        result = await self._agent.converge()
        pairs = pair_up(result.snapshot, self._agent.policy).pairs
        return self._answer(result, tuple(pair for pair in pairs if pair.mac in macs))

    async def _next(self, deadline: Deadline) -> ConvergeResult:
        """Return the next result. Raises TimeoutError if there is none in time."""
        return await asyncio.wait_for(self._agent.next_result(), max(deadline.remaining_s, 0.001))

    async def _await_pairs(
        self, arguments: Obj, deadline: Deadline
    ) -> tuple[ConvergeResult, tuple[Pair, ...]]:
        """Wait for the pairs that the arguments name, and return them.

        The first VF that is plugged makes a pair of a NIC, but only when its driver and udev
        have finished, and the host asks at once. Raises ConflictError at the deadline.
        """
        result = await self._agent.latest()
        while True:
            try:
                return result, self._chosen(result, arguments)
            except ConflictError as none_yet:
                try:
                    result = await self._next(deadline)
                except TimeoutError:
                    raise none_yet from None

    async def _await_side(
        self, result: ConvergeResult, pairs: tuple[Pair, ...], role: Role, deadline: Deadline
    ) -> _Answer:
        """Return once the active port of every pair has this role. Raises DeadlineError."""
        while True:
            answer = self._pairs(result, pairs)
            if len(answer) == len(pairs) and all(pair.active is role for pair in answer):
                return self._answer(result, pairs)
            try:
                result = await self._next(deadline)
            except TimeoutError:
                late = [f"{p.bond or p.mac}: {p.reason}" for p in answer if p.active is not role]
                raise DeadlineError(
                    f"not on the {role} in time: {'; '.join(late) or 'the pair is gone'}",
                    hint="see `guestagent status` in the guest",
                ) from None

    def _chosen(self, result: ConvergeResult, arguments: Obj) -> tuple[Pair, ...]:
        pairs = pair_up(result.snapshot, self._agent.policy).pairs
        if not pairs:
            raise ConflictError(
                "this guest has no pair of virtio-net NIC and VF",
                hint="give both NICs the same MAC; `guestagent status` shows what is left alone",
            )
        name = arguments.optional_string("bond")
        if name is None:
            return pairs
        chosen = tuple(p for p in pairs if name in {p.mac, p.label})
        if not chosen:
            known = ", ".join(p.label for p in pairs)
            raise ConflictError(f"no pair {name[:40]!r}", hint=f"there is: {known}")
        return chosen

    def _report(self, result: ConvergeResult) -> Status:
        error = str(result.error) if result.error is not None else None
        return status(
            result.snapshot,
            self._agent.policy,
            result.plan,
            agent="running",
            last_error=error,
            counts=Counts(
                held_s={m: self._agent.holds.remaining_s(m) for m in result.snapshot.held},
                history=self._agent.history,
                announcements=self._agent.announced,
                lost_carrier=lost_carriers,
            ),
        )

    def _pairs(self, result: ConvergeResult, chosen: tuple[Pair, ...]) -> tuple[PairStatus, ...]:
        macs = {pair.mac for pair in chosen}
        return tuple(pair for pair in self._report(result).pairs if pair.mac in macs)

    def _answer(self, result: ConvergeResult, chosen: tuple[Pair, ...]) -> _Answer:
        return {"pairs": [asdict(pair) for pair in self._pairs(result, chosen)]}


def _raise_failure(result: ConvergeResult, bonds: AbstractSet[str | None]) -> None:
    """Raise the failure of one of the bonds, of one that has no name yet, or of all."""
    if result.error is not None and (
        None in bonds or not result.failed or not result.failed.isdisjoint(bonds)
    ):
        raise result.error


def _require_standby(pair: Pair) -> None:
    """Raise ConflictError unless the standby can carry the pair's traffic now."""
    if pair.bond is None or not pair.standby.is_port_of(pair.bond):
        raise ConflictError(
            f"pair {pair.mac}: {pair.standby.name} is not a port of a bond yet",
            hint="see `guestagent status`; try again when the pair is bonded",
        )
    if not pair.standby.carrier:
        raise ConflictError(
            f"{pair.bond.name}: the standby {pair.standby.name} has no carrier",
            hint="bring the link of the virtio-net NIC up on the host",
        )


def _timeout_s(request: str, arguments: Obj) -> float:
    timeout_s = arguments.number("timeout_s") if arguments.has("timeout_s") else 30.0
    if not 0 <= timeout_s <= MAX_WAIT_S:
        raise GuestAgentError(
            f"{request}: timeout_s is {timeout_s:g}", hint=f"it must be from 0 to {MAX_WAIT_S:g}"
        )
    return timeout_s


def _hold_s(arguments: Obj) -> float:
    seconds = arguments.number("hold_s") if arguments.has("hold_s") else DEFAULT_HOLD_S
    if not 0 < seconds <= MAX_HOLD_S:
        raise GuestAgentError(
            f"switch: hold_s is {seconds:g}", hint=f"it must be over 0 and at most {MAX_HOLD_S:g}"
        )
    return seconds
