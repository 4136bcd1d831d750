"""One full look at the system: everything a plan is made from, in one snapshot.

Nothing is remembered from one look to the next but since when a few states
have lasted (``Moments``): udev is given a bounded time to finish with a NIC,
and a switch window stays open until the path has settled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Protocol

from guestagent.clock import Clock
from guestagent.guest.core.model import (
    STANDBY_DRIVER,
    Link,
    Pair,
    Policy,
    Remembered,
    Setting,
    Snapshot,
    StackFile,
)
from guestagent.guest.core.pairing import bond_of, pair_up
from guestagent.guest.core.plan import bond_name
from guestagent.guest.kernel.protocol import Kernel
from guestagent.guest.stacks.base import Nic
from guestagent.guest.stacks.select import Stacks

UDEV_GRACE_S = 3.0
"""After this a NIC counts as finished although udev never said so: a NIC whose
renaming failed has no udev properties at all."""

WINDOW_S = 2.0
"""How long the switch window stays open after the last change of port."""

DRAIN_S = 1.0
"""How long a bond that is taken apart stays after its addresses, for what is under way to it."""


class UdevHints(Protocol):
    """What udev says of a NIC."""

    def finished_with(self, name: str) -> bool:
        """Whether udev has processed a NIC, its renaming included."""

    def properties(self, name: str) -> Mapping[str, str]:
        """Return what udev knows of a NIC."""


class Memory(Protocol):
    """The pairs that were seen before."""

    def load(self) -> tuple[Remembered, ...]:
        """Return the remembered pairs."""


class Released(Protocol):
    """The pairs that are taken apart and left alone."""

    def current(self) -> frozenset[str]:
        """Return their MACs."""


class Moments:
    """Since when each thing has had its present value, in monotonic seconds."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[object, tuple[object, float]] = {}
        self._next: float | None = None

    def begin(self) -> None:
        """Start a new look: nothing is waited for yet."""
        self._next = None

    def lasted(self, key: object, value: object, duration_s: float) -> bool:
        """Whether ``key`` has had this value for ``duration_s``; note it as waited for if not."""
        now = self._clock()
        known = self._since.get(key)
        if known is None or known[0] != value:
            known = (value, now)
            self._since[key] = known
        due = known[1] + duration_s
        if now >= due:
            return True
        self._next = due if self._next is None else min(self._next, due)
        return False

    def keep(self, keys: set[object]) -> None:
        """Forget all but these keys."""
        self._since = {key: value for key, value in self._since.items() if key in keys}

    @property
    def next_s(self) -> float | None:
        """Seconds until the first of the states waited for in this look has lasted, or None."""
        return None if self._next is None else max(0.0, self._next - self._clock())


class Observer:
    """Makes snapshots."""

    def __init__(
        self,
        *,
        kernel: Kernel,
        udev: UdevHints,
        stacks: Stacks,
        memory: Memory,
        released: Released,
        moments: Moments,
        udev_grace_s: float = UDEV_GRACE_S,
    ) -> None:
        self._kernel = kernel
        self._udev = udev
        self._stacks = stacks
        self._memory = memory
        self._released = released
        self._moments = moments
        self._udev_grace_s = udev_grace_s

    def observe(
        self,
        policy: Policy,
        held: frozenset[str] = frozenset(),
        avoided: frozenset[str] = frozenset(),
    ) -> Snapshot:
        """Return the present state. Raises KernelError."""
        self._moments.begin()
        links = self._kernel.links()
        snapshot = Snapshot(
            links=tuple(self._timed(link, links) for link in links),
            remembered=self._memory.load(),
            held=held,
            avoided=avoided,
            released=self._released.current(),
        )
        self._moments.keep({*(("nic", link.ifindex) for link in links), *_bond_keys(links)})
        return self._with_pairs(self._with_released(snapshot), policy)

    def _timed(self, link: Link, links: tuple[Link, ...]) -> Link:
        if link.physical:
            settled = (
                self._udev_grace_s == 0
                or _joined(link, links)
                or self._udev.finished_with(link.name)
                or self._moments.lasted(("nic", link.ifindex), link.name, self._udev_grace_s)
            )
            return link if settled else replace(link, settled=False)
        if link.bond is not None and link.ours and link.bond.all_ports_active:
            ports = frozenset(item.ifindex for item in links if item.upper == link.ifindex)
            state = (ports, link.bond.active)
            steady = self._moments.lasted(("bond", link.ifindex), state, WINDOW_S)
            return replace(link, bond=replace(link.bond, steady=steady))
        return link

    def _with_released(self, snapshot: Snapshot) -> Snapshot:
        """Add what the bonds that are taken apart still carry, and whether they have drained."""
        return replace(
            snapshot,
            links=tuple(self._emptying(link, snapshot) for link in snapshot.links),
            stack_files=self._returning(snapshot),
        )

    def _returning(self, snapshot: Snapshot) -> dict[str, tuple[StackFile, ...]]:
        """Return what the standby of each bond that is taken apart needs, by the bond's name."""
        files = {}
        for nic in snapshot.links:
            mac = nic.permanent_address
            bond = bond_of(snapshot, mac) if mac and mac in snapshot.released else None
            if bond is not None and nic.driver == STANDBY_DRIVER:
                files[bond.name] = self._stacks.files_for_return(self._nic(bond.name, nic))
        return files

    def _emptying(self, link: Link, snapshot: Snapshot) -> Link:
        if not link.ours or link.bond is None or link.pair_mac not in snapshot.released:
            return link
        addresses = self._kernel.addresses(link.ifindex)
        routes = self._kernel.routes(link.ifindex)
        key = ("emptied", link.ifindex)
        drained = self._moments.lasted(key, bool(addresses), DRAIN_S) and not addresses
        state = replace(link.bond, steady=drained)
        return replace(
            link,
            addresses=addresses,
            routes=routes,
            rules=self._kernel.rules(link.name),
            neighbours=self._kernel.neighbours(link.ifindex),
            filtering=self._kernel.has_rp_filter(link.name),
            bond=state,
        )

    def _with_pairs(self, snapshot: Snapshot, policy: Policy) -> Snapshot:
        """Add what only the NICs of pairs are asked for: addresses, routes, stack files."""
        details: dict[int, Link] = {}
        files = dict(snapshot.stack_files)
        taken = {link.name for link in snapshot.links}
        # A hundred files each; those of a new link are the same for every pair.
        settings = cache(self._kernel.settings)
        for pair in pair_up(snapshot, policy).pairs:
            standby = pair.standby
            bond = bond_name(snapshot, policy, pair, taken)
            taken.add(bond)
            nic = self._nic(bond, standby, vf_name=pair.vf.name if pair.vf else None)
            if pair.bond is None or standby.upper != pair.bond.ifindex:
                link = replace(
                    self._in_use(pair, settings),
                    conflict=self._stacks.conflict(nic),
                    autoconfiguration=self._stacks.autoconfiguration(nic),
                )
                details[link.ifindex], nic = link, replace(nic, link=link)
            files[bond] = self._stacks.files(nic)
        links = tuple(details.get(link.ifindex, link) for link in snapshot.links)
        return replace(snapshot, links=links, stack_files=files)

    def _nic(self, bond: str, link: Link, vf_name: str | None = None) -> Nic:
        properties = partial(self._udev.properties, link.name)
        return Nic(bond=bond, link=link, properties=properties, vf_name=vf_name)

    def _in_use(self, pair: Pair, settings_of: Callable[[str], frozenset[Setting]]) -> Link:
        """Return the standby with what it has; all that is moved, when that may come next.

        A pair without a bond has to wait for its VF, and for udev: while sixteen VFs come at
        once there are many looks, and reading all for each pair took two seconds of each.
        """
        kernel, standby = self._kernel, pair.standby
        addresses = kernel.addresses(standby.ifindex)
        ready = pair.vf is not None and pair.vf.settled and standby.settled
        if addresses and not ready and (pair.vf is None or pair.bond is None):
            return replace(standby, addresses=addresses, routes=kernel.routes(standby.ifindex))
        # A bond that is yet to be made will have what every new link has.
        given = settings_of("default" if pair.bond is None else pair.bond.name)
        settings = settings_of(standby.name) - given
        standby = replace(standby, settings=tuple(sorted(settings, key=lambda item: item.key)))
        if not addresses:
            # Not the guest's own traffic, but somebody's: a sensor, a router in user space.
            obstacles = kernel.unmovable(standby.ifindex) if standby.up else ()
            return replace(standby, obstacles=obstacles)
        return replace(
            standby,
            addresses=addresses,
            routes=kernel.routes(standby.ifindex),
            rules=kernel.rules(standby.name),
            neighbours=kernel.neighbours(standby.ifindex),
            filtering=kernel.has_rp_filter(standby.name),
            obstacles=kernel.unmovable(standby.ifindex),
        )


def _joined(nic: Link, links: tuple[Link, ...]) -> bool:
    """Whether a NIC is a port of ours: it has been through udev before it joined."""
    return any(link.ours and link.ifindex == nic.upper for link in links)


def _bond_keys(links: tuple[Link, ...]) -> set[object]:
    bonds = [link for link in links if link.bond is not None]
    windows = {
        ("bond", link.ifindex)
        for link in bonds
        if link.bond is not None and link.bond.all_ports_active
    }
    return {*windows, *(("emptied", link.ifindex) for link in bonds)}
