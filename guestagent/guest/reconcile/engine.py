"""Observe, plan, apply, and observe again until nothing is left to do.

Synchronous and owned by one thread: the only writer of the process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from guestagent.errors import GuestAgentError, InternalError
from guestagent.guest.core.addressing import Address
from guestagent.guest.core.plan import Plan
from guestagent.guest.core.planner import plan
from guestagent.guest.core.policy import Policy
from guestagent.guest.core.snapshot import Snapshot
from guestagent.guest.core.teardown import teardown
from guestagent.guest.kernel.protocol import Kernel
from guestagent.guest.reconcile.apply import Applier
from guestagent.guest.reconcile.observe import Observer

MAX_ROUNDS = 8
"""A pair needs two or three; more means that another program undoes the agent's work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvergeResult:
    """The last snapshot, the plan for it, and the failures on the way."""

    snapshot: Snapshot
    plan: Plan
    error: GuestAgentError | None = None
    failed: frozenset[str] = frozenset()
    """The bonds with a failure; none when the observation itself failed."""


class Engine:
    """The agent without its loop."""

    def __init__(
        self, *, policy: Policy, kernel: Kernel, observer: Observer, applier: Applier
    ) -> None:
        self.policy = policy
        self._kernel = kernel
        self._observer = observer
        self._applier = applier

    def look(
        self, held: frozenset[str] = frozenset(), avoided: frozenset[str] = frozenset()
    ) -> ConvergeResult:
        """Observe and plan, changing nothing. Raises KernelError."""
        snapshot = self._observer.observe(self.policy, held, avoided)
        return ConvergeResult(snapshot=snapshot, plan=plan(snapshot, self.policy))

    def converge(
        self, held: frozenset[str] = frozenset(), avoided: frozenset[str] = frozenset()
    ) -> ConvergeResult:
        """Observe, plan and apply until nothing is left to do, but for bonds with a failure.

        The first failure is in the result, not raised. A bond that was only begun is
        deleted again, so that the NICs are as they were; the other pairs go on.
        """
        return self._until_done(lambda: self.look(held, avoided))

    def tear_down(self) -> ConvergeResult:
        """Take the bonds of undone pairs apart as ``converge`` does, and do nothing else."""

        def look() -> ConvergeResult:
            snapshot = self.look().snapshot
            return ConvergeResult(snapshot=snapshot, plan=teardown(snapshot))

        return self._until_done(look)

    def _until_done(self, look: Callable[[], ConvergeResult]) -> ConvergeResult:
        failed: dict[str, GuestAgentError] = {}
        result = look()
        for _ in range(MAX_ROUNDS):
            todo = [action for action in result.plan.actions if action.bond not in failed]
            if not todo:
                break
            failed.update(self._applier.apply(todo))
            result = look()
        else:
            endless = InternalError(
                f"after {MAX_ROUNDS} rounds there is still something to do",
                hint="another program may be undoing it: look at `guestagent plan`",
            )
            for action in result.plan.actions:
                failed.setdefault(action.bond, endless)
        error = next(iter(failed.values()), None)
        return replace(result, error=error, failed=frozenset(failed))

    def addresses(self, ifindex: int) -> tuple[Address, ...]:
        """Return the present addresses of a link. Raises KernelError."""
        return self._kernel.addresses(ifindex)

    def tx_backlog(self, ifindexes: frozenset[int]) -> int:
        """Return packets and bytes that are queued for transmission. Raises KernelError."""
        return sum(self._kernel.tx_backlog(ifindex) for ifindex in ifindexes)

    def solicit_gateways(self, ifindex: int) -> bool:
        """Solicit the default gateways of a link; False if it has none."""
        gateways = self._gateways(ifindex)
        for family, gateway in gateways:
            self._kernel.solicit_neighbour(ifindex, family, gateway)
        return bool(gateways)

    def gateway_reached(self, ifindex: int) -> bool:
        """Whether the kernel has confirmed a default gateway of a link lately."""
        reachable = self._kernel.reachable_neighbours(ifindex)
        return any(gateway in reachable for _, gateway in self._gateways(ifindex))

    def _gateways(self, ifindex: int) -> tuple[tuple[int, str], ...]:
        return tuple(
            (route.family, route.gateway)
            for route in self._kernel.routes(ifindex)
            if route.destination is None and route.gateway is not None
        )

    def close(self) -> None:
        """Close the kernel's sockets."""
        self._kernel.close()
