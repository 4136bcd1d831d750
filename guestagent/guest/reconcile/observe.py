"""Observation: everything that a plan is made from, in one snapshot.

Nothing is remembered between two observations but how long a few states have lasted
(``Stability``): udev is given a bounded time to finish with a NIC, and a switch window stays open
until the path has settled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Protocol

from guestagent.guest.core.addressing import Address, Addressing, Setting
from guestagent.guest.core.link import STANDBY_DRIVER, Link
from guestagent.guest.core.pair import Pair
from guestagent.guest.core.pairing import pair_up
from guestagent.guest.core.planner import bond_name
from guestagent.guest.core.policy import Policy
from guestagent.guest.core.snapshot import RememberedPair, Snapshot, StackFile
from guestagent.guest.kernel.protocol import Kernel
from guestagent.guest.reconcile.stability import Stability
from guestagent.guest.stacks.base import Nic
from guestagent.guest.stacks.select import Stacks

UDEV_GRACE_S = 3.0
"""Time after which a NIC counts as settled without a word of udev: a NIC whose renaming failed
has no udev properties at all."""

WINDOW_S = 2.0
"""Time for which the switch window stays open after the last change of port."""

DRAIN_S = 1.0
"""Time for which a bond under teardown outlives its addresses, for packets on their way to it."""


class UdevHints(Protocol):
    """Results of udev's work on a NIC."""

    def finished_with(self, name: str) -> bool:
        """Whether udev has processed a NIC, its renaming included."""

    def properties(self, name: str) -> Mapping[str, str]:
        """Return the udev properties of a NIC."""


class Observer:
    """Makes snapshots; ``remembered`` and ``undone`` read the agent's own files."""

    def __init__(
        self,
        *,
        kernel: Kernel,
        udev: UdevHints,
        stacks: Stacks,
        remembered: Callable[[], tuple[RememberedPair, ...]],
        undone: Callable[[], frozenset[str]],
        stability: Stability,
        udev_grace_s: float = UDEV_GRACE_S,
    ) -> None:
        self._kernel = kernel
        self._udev = udev
        self._stacks = stacks
        self._remembered = remembered
        self._undone = undone
        self._stability = stability
        self._udev_grace_s = udev_grace_s

    def observe(
        self,
        policy: Policy,
        held: frozenset[str] = frozenset(),
        avoided: frozenset[str] = frozenset(),
    ) -> Snapshot:
        """Return the present state. Raises KernelError."""
        self._stability.begin()
        links = self._kernel.links()
        snapshot = Snapshot(
            links=tuple(self._timed(link, links) for link in links),
            remembered=self._remembered(),
            held=held,
            avoided=avoided,
            undone=self._undone(),
        )
        self._stability.keep({*(("nic", link.ifindex) for link in links), *_bond_keys(links)})
        return self._with_pairs(self._with_teardowns(snapshot), policy)

    def _timed(self, link: Link, links: tuple[Link, ...]) -> Link:
        """Add how long the state of a link has lasted, where that matters."""
        if link.physical:
            settled = (
                self._udev_grace_s == 0
                # udev had finished with a NIC before it joined a bond of the agent.
                or any(bond.ours and link.is_port_of(bond) for bond in links)
                or self._udev.finished_with(link.name)
                or self._stability.held_for(("nic", link.ifindex), link.name, self._udev_grace_s)
            )
            return link if settled else replace(link, settled=False)
        if link.bond is not None and link.ours and link.bond.all_ports_active:
            ports = frozenset(item.ifindex for item in links if item.is_port_of(link))
            path = (ports, link.bond.active)
            stable = self._stability.held_for(("bond", link.ifindex), path, WINDOW_S)
            return replace(link, bond=replace(link.bond, path_stable=stable))
        return link

    def _with_teardowns(self, snapshot: Snapshot) -> Snapshot:
        """Add the addressing of bonds under teardown, and the files that their standbys need."""
        files: dict[str, tuple[StackFile, ...]] = {}
        for mac in snapshot.undone:
            bond = snapshot.bond_of(mac)
            for nic in snapshot.nics_of(mac) if bond is not None else ():
                if bond is not None and nic.driver == STANDBY_DRIVER:
                    files[bond.name] = self._stacks.files_for_return(self._nic(bond.name, nic))
        links = tuple(self._draining(link, snapshot) for link in snapshot.links)
        return replace(snapshot, links=links, stack_files=files)

    def _draining(self, link: Link, snapshot: Snapshot) -> Link:
        """Add the addressing of a bond under teardown, and whether it has drained."""
        if not link.ours or link.bond is None or link.pair_mac not in snapshot.undone:
            return link
        addresses = self._kernel.addresses(link.ifindex)
        key = ("emptied", link.ifindex)
        drained = self._stability.held_for(key, bool(addresses), DRAIN_S) and not addresses
        return replace(
            link,
            addresses=addresses,
            addressing=self._addressing(link, addresses),
            bond=replace(link.bond, drained=drained),
        )

    def _with_pairs(self, snapshot: Snapshot, policy: Policy) -> Snapshot:
        """Add what is read for the NICs of pairs alone: addressing, settings, stack files."""
        standbys: dict[int, Link] = {}
        files = dict(snapshot.stack_files)
        taken = {link.name for link in snapshot.links}
        # A hundred files for each link; those of a new link are the same for every pair.
        settings = cache(self._kernel.settings)
        for pair in pair_up(snapshot, policy).pairs:
            standby = pair.standby
            bond = bond_name(snapshot, policy, pair, taken)
            taken.add(bond)
            nic = self._nic(bond, standby, vf_name=pair.vf.name if pair.vf else None)
            if not standby.is_port_of(pair.bond):
                link = replace(
                    self._before_joining(pair, settings),
                    conflict=self._stacks.conflict(nic),
                    autoconfiguration=self._stacks.autoconfiguration(nic),
                )
                standbys[link.ifindex], nic = link, replace(nic, link=link)
            files[bond] = self._stacks.files(nic)
        links = tuple(standbys.get(link.ifindex, link) for link in snapshot.links)
        return replace(snapshot, links=links, stack_files=files)

    def _nic(self, bond: str, link: Link, vf_name: str | None = None) -> Nic:
        properties = partial(self._udev.properties, link.name)
        return Nic(bond=bond, link=link, properties=properties, vf_name=vf_name)

    def _before_joining(
        self, pair: Pair, settings_of: Callable[[str], frozenset[Setting]]
    ) -> Link:
        """Return the standby with its addresses, and with all else once it may join next.

        A standby in use waits for its VF, and a new bond for udev: while sixteen VFs arrive at
        once there are many observations, and reading all for each pair took two seconds of each.
        """
        kernel, standby = self._kernel, pair.standby
        addresses = kernel.addresses(standby.ifindex)
        standby = replace(standby, addresses=addresses)
        settled = all(nic.settled for nic in pair.nics)
        if addresses and (pair.vf is None or (pair.bond is None and not settled)):
            return standby
        # A bond that is yet to be made will have the settings of every new link.
        known = settings_of("default" if pair.bond is None else pair.bond.name)
        settings = sorted(settings_of(standby.name) - known, key=lambda item: item.key)
        # Even without addresses it may be in use: by a sensor, or a router in user space.
        in_use = bool(addresses) or standby.up
        return replace(
            standby,
            settings=tuple(settings),
            unmovable=kernel.unmovable(standby.ifindex) if in_use else (),
            addressing=self._addressing(standby, addresses) if addresses else None,
        )

    def _addressing(self, link: Link, addresses: tuple[Address, ...]) -> Addressing:
        return Addressing(
            addresses=addresses,
            routes=self._kernel.routes(link.ifindex),
            rules=self._kernel.rules(link.name),
            neighbours=self._kernel.neighbours(link.ifindex),
            rp_filter=self._kernel.has_rp_filter(link.name),
        )


def _bond_keys(links: tuple[Link, ...]) -> set[object]:
    """Return the keys of the bonds: a window is timed while it is open."""
    bonds = [(link.ifindex, link.bond) for link in links if link.bond is not None]
    windows = {("bond", ifindex) for ifindex, state in bonds if state.all_ports_active}
    return {*windows, *(("emptied", ifindex) for ifindex, _ in bonds)}
