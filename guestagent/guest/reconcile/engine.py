"""Observe, plan, apply, and look again until nothing is left to do.

Synchronous and owned by one thread: the only writer of the process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from guestagent.errors import GuestAgentError, InternalError
from guestagent.guest.core.model import Address, Policy, Snapshot
from guestagent.guest.core.plan import Plan, plan
from guestagent.guest.core.teardown import release
from guestagent.guest.kernel.protocol import Kernel
from guestagent.guest.reconcile.apply import Applier
from guestagent.guest.reconcile.observe import Observer

MAX_ROUNDS = 8
"""A pair needs two or three; more means that somebody undoes what we do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The last look, what it would still do, and what went wrong."""

    snapshot: Snapshot
    plan: Plan
    error: GuestAgentError | None = None
    failed: frozenset[str] = frozenset()
    """The bonds for which something failed; none when the system could not be looked at."""


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
    ) -> Outcome:
        """Observe and plan, changing nothing. Raises KernelError."""
        snapshot = self._observer.observe(self.policy, held, avoided)
        return Outcome(snapshot=snapshot, plan=plan(snapshot, self.policy))

    def converge(
        self, held: frozenset[str] = frozenset(), avoided: frozenset[str] = frozenset()
    ) -> Outcome:
        """Observe, plan and apply until nothing is left to do, but for bonds where that failed.

        The first failure is in the outcome, not raised. A bond that was only begun is
        taken away again, so that the NICs are as they were; the other pairs go on.
        """
        return self._until_done(lambda: self.look(held, avoided))

    def release(self) -> Outcome:
        """Take released pairs apart as ``converge`` does, and nothing else."""

        def look() -> Outcome:
            outcome = self.look()
            only = release(outcome.snapshot)
            return Outcome(
                snapshot=outcome.snapshot,
                plan=Plan(actions=only.actions, refusals=only.refusals, waiting=only.waiting),
            )

        return self._until_done(look)

    def _until_done(self, look: Callable[[], Outcome]) -> Outcome:
        failed: dict[str, GuestAgentError] = {}
        outcome = look()
        for _ in range(MAX_ROUNDS):
            todo = [action for action in outcome.plan.actions if action.bond not in failed]
            if not todo:
                break
            failed.update(self._applier.apply(todo))
            outcome = look()
        else:
            endless = InternalError(
                f"after {MAX_ROUNDS} rounds there is still something to do",
                hint="another program may be undoing it: look at `guestagent plan`",
            )
            for action in outcome.plan.actions:
                failed.setdefault(action.bond, endless)
        error = next(iter(failed.values()), None)
        return replace(outcome, error=error, failed=frozenset(failed))

    def addresses(self, ifindex: int) -> tuple[Address, ...]:
        """Return the addresses that a link has now. Raises KernelError."""
        return self._kernel.addresses(ifindex)

    def unsent(self, ifindexes: frozenset[int]) -> int:
        """Return what links hold of what they were given to send. Raises KernelError."""
        return sum(self._kernel.tx_backlog(ifindex) for ifindex in ifindexes)

    def solicit_gateways(self, ifindex: int) -> bool:
        """Make the default gateways of a link prove themselves; False without any."""
        gateways = self._gateways(ifindex)
        for family, gateway in gateways:
            self._kernel.solicit_neighbour(ifindex, family, gateway)
        return bool(gateways)

    def gateway_reached(self, ifindex: int) -> bool:
        """Whether one of the default gateways of a link has answered lately."""
        reachable = self._kernel.reachable_neighbours(ifindex)
        return any(gateway in reachable for _, gateway in self._gateways(ifindex))

    def _gateways(self, ifindex: int) -> tuple[tuple[int, str], ...]:
        return tuple(
            (route.family, route.gateway)
            for route in self._kernel.routes(ifindex)
            if route.destination is None and route.gateway is not None
        )

    def close(self) -> None:
        """Release the kernel's socket."""
        self._kernel.close()
