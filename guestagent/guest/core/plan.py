"""What to change: from a snapshot and the policy to an ordered list of actions.

Pure. The plan of a converged system is empty, and applying any prefix of a
plan and planning again leads to the same end: the plan is made from what is,
never from what was done.

The order within a pair is make before break: the bond works on the VF before
addresses move to it, and the standby, idle by then, joins last. Where the next
step needs a state that is not there yet (a carrier, udev's last word) the plan
ends and ``waiting`` says for what; the event that brings it makes a new plan.
A planned return to the VF opens the window first, so that frames which the
network still delivers to the other port are not dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from guestagent.guest.core.actions import (
    Action,
    AddPort,
    BondUp,
    CarrySettings,
    CloseWindow,
    CreateBond,
    DeleteBond,
    FreeBond,
    HoldOffStack,
    LetGo,
    MarkBond,
    MoveNetwork,
    OpenWindow,
    PortDown,
    PortRef,
    QuietPort,
    ReloadStack,
    RememberPair,
    SetPrimary,
    TuneBond,
    WriteStackFile,
    describe,
)
from guestagent.guest.core.eligibility import hindrance
from guestagent.guest.core.model import (
    ACCEPT_RA,
    RP_FILTER,
    Autoconfiguration,
    Link,
    Pair,
    Policy,
    Refusal,
    Snapshot,
)
from guestagent.guest.core.pairing import pair_up
from guestagent.guest.core.teardown import release


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The actions, and what is left alone or waited for, with the reasons."""

    actions: tuple[Action, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    waiting: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Return the JSON form: the name of each action, its words and its values."""
        return {
            "version": 1,
            "actions": [
                {"action": type(item).__name__, "does": describe(item), **asdict(item)}
                for item in self.actions
            ],
            "left_alone": [asdict(item) for item in self.refusals],
            "waiting": list(self.waiting),
        }


def plan(snapshot: Snapshot, policy: Policy) -> Plan:
    """Return what brings every pair of the snapshot to where the policy wants it."""
    pairing = pair_up(snapshot, policy)
    actions: list[Action] = []
    waiting: list[str] = []
    taken = {link.name for link in snapshot.links}
    released = release(snapshot)
    refusals = [*released.refusals, *pairing.refusals]
    actions.extend(released.actions)
    waiting.extend(released.waiting)
    actions.extend(_remains(snapshot, pairing.pairs))
    for pair in pairing.pairs:
        bond = bond_name(snapshot, policy, pair, taken)
        taken.add(bond)
        refusal = hindrance(pair, bond)
        if refusal is not None:
            refusals.append(refusal)
            continue
        planner = _PairPlanner(snapshot, policy, pair, bond)
        waiting.extend(planner.waiting())
        if not planner.blocked():
            actions.extend(planner.actions())
    return Plan(actions=tuple(actions), refusals=tuple(refusals), waiting=tuple(waiting))


def _remains(snapshot: Snapshot, pairs: tuple[Pair, ...]) -> Iterator[Action]:
    """Clear away bonds that were begun for a VF that has gone again: nothing uses them."""
    serving = {pair.bond.ifindex for pair in pairs if pair.bond is not None}
    for link in snapshot.links:
        begun = link.ours and not link.complete and not snapshot.ports(link)
        if begun and link.ifindex not in serving and link.pair_mac not in snapshot.released:
            yield DeleteBond(bond=link.name, reason="its VF went before it was complete")


def bond_name(snapshot: Snapshot, policy: Policy, pair: Pair, taken: set[str]) -> str:
    """Return the name of a pair's bond: the present, the wanted, the remembered or a free one."""
    if pair.bond is not None:
        return pair.bond.name
    wanted = policy.of_pair(pair.mac).bond_name
    if wanted is not None:
        return wanted
    wishes = {item.bond_name for item in policy.pairs if item.bond_name is not None}
    for item in snapshot.remembered:
        if item.mac == pair.mac and item.bond not in taken | wishes:
            return item.bond
    reserved = taken | wishes | {item.bond for item in snapshot.remembered}
    number = 0
    while (name := policy.bond_name.replace("%d", str(number))) in reserved:
        number += 1
    return name


@dataclass(frozen=True, slots=True)
class _PairPlanner:
    snapshot: Snapshot
    policy: Policy
    pair: Pair
    bond_name: str

    def blocked(self) -> bool:
        """Whether nothing at all can be done for the pair now."""
        pair = self.pair
        if pair.bond is not None:
            return False
        nics = [link for link in (pair.standby, pair.vf) if link is not None]
        return any(not link.settled for link in nics) or (pair.vf is None and self._live())

    def waiting(self) -> Iterator[str]:
        """Say what keeps the pair from its final state."""
        for link in (self.pair.standby, self.pair.vf):
            if link is not None and not link.settled and not self._joined(link):
                yield f"{link.name}: udev has not finished with it"
        vf = self.pair.vf
        if vf is not None and self._joined(vf) and not vf.operational:
            yield f"{vf.name} is a port of {self.bond_name} and has no carrier yet"
        if self._live() and vf is None and not self._carries():
            yield (
                f"{self.pair.standby.name} is in use and the VF is away: it joins a bond when"
                " the VF comes or at the next boot"
            )
        elif self._live() and self.pair.bond is not None and not self._carries():
            standby = self.pair.standby.name
            yield f"{standby} keeps the traffic until {self.bond_name} has a carrier"

    def actions(self) -> Iterator[Action]:
        state = self.pair.bond.bond if self.pair.bond else None
        window_open = state is not None and state.all_ports_active
        for action in self._steps():
            if isinstance(action, OpenWindow):
                if window_open:
                    continue
                window_open = True
            yield action

    def _steps(self) -> Iterator[Action]:
        files = list(self._stack_files())
        changes = [*self._join_vf(), *self._join_standby(), *self._prefer()]
        yield from self._create()
        yield from self._tune()
        yield from self._carry()
        yield from files
        yield from changes
        yield from self._complete()
        if files and self._is_complete():
            yield ReloadStack(bond=self.bond_name, reason="its configuration has changed")
        state = self.pair.bond.bond if self.pair.bond else None
        if not changes and state is not None and state.all_ports_active and state.steady:
            yield CloseWindow(bond=self.bond_name, reason="the path has settled")
        # Last: a disk that is full keeps the pair from nothing else.
        yield from self._remember()

    def _remember(self) -> Iterator[Action]:
        known = any(
            item.mac == self.pair.mac and item.bond == self.bond_name
            for item in self.snapshot.remembered
        )
        if not known and self.pair.vf is not None:
            yield RememberPair(
                bond=self.bond_name, mac=self.pair.mac, reason="a boot without the VF needs it"
            )

    def _stack_files(self) -> Iterator[Action]:
        # Only when the bond takes over: until then the NIC stays as it was, at a boot too.
        if self._live() and not self._carries():
            return
        for file in self.snapshot.stack_files.get(self.bond_name, ()):
            if not file.in_place:
                yield WriteStackFile(
                    bond=self.bond_name,
                    path=file.path,
                    content=file.content,
                    reason="the owner of the addresses must know the bond",
                )

    def _create(self) -> Iterator[Action]:
        if self.pair.bond is not None:
            return
        reason = f"{self.pair.standby.name} has its addresses still"
        for file in self.snapshot.stack_files.get(self.bond_name, ()):
            content = file.pre_takeover_content
            if content is not None and self._live():
                yield HoldOffStack(
                    bond=self.bond_name, path=file.path, content=content, reason=reason
                )
        yield CreateBond(
            bond=self.bond_name,
            mac=self.pair.mac,
            mtu=self.pair.standby.mtu,
            options=self.policy.of_pair(self.pair.mac).options,
            quiet=self._created_quiet(),
            reason="the pair has none",
        )

    def _created_quiet(self) -> bool:
        """Whether the kernel must neither make addresses on the bond nor hear routers on it."""
        kernels = self.pair.standby.autoconfiguration is Autoconfiguration.KERNEL
        return self._live() or not kernels

    def _carry(self) -> Iterator[Action]:
        """Give the bond the NIC's settings: when it is made, and before it takes over."""
        standby = self.pair.standby
        settings = standby.settings
        loosen = self._live() and standby.filtering
        if self._created_quiet():
            # Until the network has moved, the bond would make addresses beside the NIC's, and
            # drop what the VF receives. It gets these as the NIC had them afterwards; at boot
            # the stack sets them.
            later = {ACCEPT_RA, RP_FILTER} if loosen else {ACCEPT_RA}
            settings = tuple(item for item in settings if item.key not in later)
        due = self.pair.bond is None or self._carries() or not self._live()
        if (settings or loosen) and due and not self._is_complete():
            yield CarrySettings(
                bond=self.bond_name,
                settings=settings,
                loosen=loosen,
                reason=f"{standby.name} has them",
            )

    def _tune(self) -> Iterator[Action]:
        """Follow a change of those options that may change while the bond has ports."""
        state = self.pair.bond.bond if self.pair.bond else None
        options = self.policy.of_pair(self.pair.mac).options
        if state is not None and (state.miimon_ms, state.announcements) != (
            options.miimon_ms,
            options.announcements,
        ):
            yield TuneBond(
                bond=self.bond_name,
                miimon_ms=options.miimon_ms,
                announcements=options.announcements,
                reason="the configuration wants it",
            )

    def _join_vf(self) -> Iterator[Action]:
        vf = self.pair.vf
        if vf is None or self._joined(vf) or not vf.settled:
            return
        yield OpenWindow(bond=self.bond_name, reason="the VF joins")
        yield from self._join(vf, "the VF is there")

    def _join_standby(self) -> Iterator[Action]:
        standby = self.pair.standby
        if self._joined(standby) or not standby.settled:
            return
        if self._live():
            # Make before break: the bond must carry before it takes the addresses.
            if self.pair.bond is None or not self.pair.bond.up:
                yield BondUp(bond=self.bond_name, reason=f"it relieves {standby.name}")
            if not self._carries():
                return
            yield LetGo(
                bond=self.bond_name, port=_ref(standby), reason="its addresses are to move"
            )
            yield MoveNetwork(
                bond=self.bond_name,
                port=_ref(standby),
                addresses=standby.addresses,
                routes=standby.routes,
                rules=standby.rules,
                neighbours=standby.neighbours,
                loosen=standby.filtering,
                reason=f"{standby.name} becomes a port",
            )
        yield from self._free_bond()
        if self._live():
            yield from self._hear_routers()
        yield OpenWindow(bond=self.bond_name, reason="the standby joins")
        yield from self._join(standby, "the pair needs its standby")

    def _free_bond(self) -> Iterator[Action]:
        """Let the bond make IPv6 addresses if the standby did: it was made quiet beside it."""
        bond, standby = self.pair.bond, self.pair.standby
        quiet = self._created_quiet() if bond is None else bond.quiet and not bond.complete
        by_stack = standby.autoconfiguration is Autoconfiguration.STACK
        if quiet and not (standby.quiet or by_stack):
            yield FreeBond(bond=self.bond_name, reason="it has the addresses now")

    def _hear_routers(self) -> Iterator[Action]:
        """Let the bond take router advertisements as the NIC did: it has the addresses now.

        Where the stack makes all addresses the kernel hears no routers, whatever the NIC says:
        after a restart of dhcpcd it may say 1, and the kernel's address stood beside dhcpcd's.
        """
        standby = self.pair.standby
        settings = tuple(item for item in standby.settings if item.key == ACCEPT_RA)
        if settings and standby.autoconfiguration is not Autoconfiguration.STACK:
            reason = f"{standby.name} did"
            yield CarrySettings(bond=self.bond_name, settings=settings, reason=reason)

    def _prefer(self) -> Iterator[Action]:
        vf, standby = self.pair.vf, self.pair.standby
        state = self.pair.bond.bond if self.pair.bond else None
        primary = state.primary if state else None
        if self.pair.mac in self.snapshot.held:
            if not (self._joined(standby) and standby.carrier):
                return
            yield from self._make_primary(standby, "the standby is asked for")
        elif self.pair.mac in self.snapshot.avoided:
            if self._joined(standby) and standby.carrier:
                yield from self._make_primary(standby, "the VF has no path")
        elif vf is not None and self._joined(vf) and vf.operational:
            yield from self._make_primary(vf, "the VF is preferred")
        elif vf is not None and primary == vf.ifindex and self._joined(standby):
            # Were it left, the bond would take the VF back with its carrier, which
            # comes before the kernel sends anything on it.
            yield from self._make_primary(standby, "the VF is not operational")

    def _make_primary(self, port: Link, reason: str) -> Iterator[Action]:
        """Move the traffic to a port and keep it there.

        The primary decides, for a bond without one takes the port that joined
        first at every event, whichever was made active (K: drivers/net/bonding/
        bond_main.c, bond_choose_primary_or_current (6.0 and later)).
        """
        state = self.pair.bond.bond if self.pair.bond else None
        if state is not None and state.primary == port.ifindex:
            return
        if state is None or state.active != port.ifindex:
            yield OpenWindow(bond=self.bond_name, reason=f"the traffic moves to {port.name}")
        yield SetPrimary(bond=self.bond_name, port=_ref(port), reason=reason)

    def _complete(self) -> Iterator[Action]:
        """Finish what was begun: the mark comes last, so that a crash repeats the rest."""
        bond, standby = self.pair.bond, self.pair.standby
        if self._is_complete() or (self._live() and not self._carries()):
            return
        if (bond is None or not bond.up) and not self._live():
            yield BondUp(bond=self.bond_name, reason="its ports have joined")
        if self._joined(standby) or standby.settled:
            yield ReloadStack(bond=self.bond_name, reason="it takes over from the NIC")
            yield MarkBond(bond=self.bond_name, mac=self.pair.mac, reason="it is complete")

    def _is_complete(self) -> bool:
        return self.pair.bond is not None and self.pair.bond.complete

    def _join(self, link: Link, reason: str) -> Iterator[Action]:
        port = _ref(link)
        if not link.quiet:
            yield QuietPort(bond=self.bond_name, port=port, reason="the bond has the addresses")
        if link.up:
            yield PortDown(bond=self.bond_name, port=port, reason="a port must be down to join")
        yield AddPort(bond=self.bond_name, port=port, reason=reason)

    def _joined(self, link: Link) -> bool:
        return self.pair.bond is not None and link.upper == self.pair.bond.ifindex

    def _live(self) -> bool:
        """Whether the standby carries the guest's addresses itself."""
        return bool(self.pair.standby.addresses) and not self._joined(self.pair.standby)

    def _carries(self) -> bool:
        """Whether the bond can take over what the standby carries."""
        bond, vf = self.pair.bond, self.pair.vf
        ready = vf is None or (self._joined(vf) and vf.operational)
        return bond is not None and bond.operational and ready


def _ref(link: Link) -> PortRef:
    return PortRef(ifindex=link.ifindex, name=link.name)
