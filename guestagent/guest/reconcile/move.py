"""Move of all addressing from one link to another, rolled back if the kernel refuses a part."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from guestagent.errors import GuestAgentError
from guestagent.guest.core.addressing import RP_FILTER, Addressing, Setting
from guestagent.guest.core.link import PortRef
from guestagent.guest.kernel.protocol import Kernel

_log = logging.getLogger("guestagent.apply")


def move_addressing(
    kernel: Kernel, addressing: Addressing, source: PortRef, target: PortRef
) -> None:
    """Put all addressing of ``source`` onto ``target``, then remove it from ``source``.

    The addresses come first, so that the same source address is valid all the time. IPv4 routes
    change their link one by one; shadowed routes and IPv6 routes exist twice for a moment. The
    kernel accepts packets on ``source`` for an address of any link, unless a reverse path filter
    drops them. Raises KernelError; ``source`` then has everything again.
    """
    with ExitStack() as rollback:
        move = _Move(kernel, addressing, source, target, rollback)
        former_filter = move.loosen_rp_filter() if addressing.rp_filter else None
        move.add_to_target()
        move.remove_from_source()
        rollback.pop_all()
    if former_filter is not None:
        kernel.write_setting(target.name, former_filter)


@dataclass(frozen=True, slots=True)
class _Move:
    """The parts of one move; each enters its reversal into ``rollback``."""

    kernel: Kernel
    addressing: Addressing
    source: PortRef
    target: PortRef
    rollback: ExitStack

    def loosen_rp_filter(self) -> Setting:
        """Let the source accept what is answered through the target; return its own filter."""
        kernel, name = self.kernel, self.source.name
        former = next(item for item in kernel.settings(name) if item.key == RP_FILTER)
        kernel.loosen_rp_filter(name)
        self._on_failure(partial(kernel.write_setting, name, former))
        return former

    def add_to_target(self) -> None:
        """Give the target everything; IPv4 routes that are not shadowed leave the source."""
        kernel, moved = self.kernel, self.addressing
        source, target = self.source, self.target
        for address in moved.addresses:
            kernel.add_address(target.ifindex, address.renamed(source.name, target.name))
            self._on_failure(partial(kernel.delete_address, target.ifindex, address))
        for neighbour in moved.neighbours:
            kernel.put_neighbour(target.ifindex, neighbour)
            self._on_failure(partial(kernel.delete_neighbour, target.ifindex, neighbour))
        # A route with a gateway needs the on-link route that leads to it.
        for route in sorted(moved.routes, key=lambda route: route.gateway is not None):
            kernel.put_route(target.ifindex, route)
            if route.shadowed:
                self._on_failure(partial(kernel.delete_route, target.ifindex, route))
            self._on_failure(partial(kernel.put_route, source.ifindex, route))
        for rule in moved.rules:
            renamed = rule.renamed(source.name, target.name)
            kernel.add_rule(renamed)
            self._on_failure(partial(kernel.delete_rule, renamed))

    def remove_from_source(self) -> None:
        """Remove from the source what the target has by now."""
        kernel, moved, ifindex = self.kernel, self.addressing, self.source.ifindex
        for rule in moved.rules:
            self._on_failure(partial(kernel.add_rule, rule))
            kernel.delete_rule(rule)
        for route in moved.routes:
            if route.family == socket.AF_INET6 or route.shadowed:
                kernel.delete_route(ifindex, route)
        for neighbour in moved.neighbours:
            self._on_failure(partial(kernel.put_neighbour, ifindex, neighbour))
            kernel.delete_neighbour(ifindex, neighbour)
        for address in moved.addresses:
            self._on_failure(partial(kernel.add_address, ifindex, address))
            kernel.delete_address(ifindex, address)

    def _on_failure(self, reversal: Callable[[], None]) -> None:
        self.rollback.callback(_reverse, reversal)


def _reverse(step: Callable[[], None]) -> None:
    try:
        step()
    except GuestAgentError as error:
        _log.warning("while going back: %s, ignoring", error)
