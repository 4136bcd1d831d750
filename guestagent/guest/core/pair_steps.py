"""The steps of one pair, from the stage that the snapshot shows. Pure.

The order is make before break: the bond works on the VF before addresses move to it, and the
standby, idle by then, joins last. Where the next step needs a state that is not there yet (a
carrier, the end of udev's work) the steps end and ``waiting`` describes the state; the event that
brings it leads to a new plan. Before the traffic returns to the VF the switch window is opened,
so that frames which the network still delivers to the other port are not dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from guestagent.guest.core import actions as act
from guestagent.guest.core.addressing import ACCEPT_RA, RP_FILTER, Setting
from guestagent.guest.core.link import Autoconfiguration, BondState, Link
from guestagent.guest.core.pair import Pair
from guestagent.guest.core.policy import Policy
from guestagent.guest.core.snapshot import Snapshot


class Stage(Enum):
    """How far the bonding of a pair is."""

    BLOCKED = auto()
    """No bond, and none may be made: udev is not done, or a standby in use has no VF."""
    PREPARING = auto()
    """The standby is in use, and the bond cannot take its addressing over yet."""
    TAKING_OVER = auto()
    """The standby is in use, and the bond can take its addressing over."""
    BUILDING = auto()
    """The standby is idle, and the bond is not complete."""
    BONDED = auto()
    """The standby is idle, and the bond is complete; a NIC may still have to join."""


@dataclass(frozen=True, slots=True)
class PairPlanner:
    """The steps of one pair; ``bond`` is the name of its bond, which may not exist yet."""

    snapshot: Snapshot
    policy: Policy
    pair: Pair
    bond: str

    @property
    def stage(self) -> Stage:
        """Stage of the pair in the snapshot."""
        bond = self.pair.bond
        if bond is None and any(not nic.settled for nic in self.pair.nics):
            return Stage.BLOCKED
        if self._standby_in_use:
            if bond is None and self.pair.vf is None:
                return Stage.BLOCKED
            return Stage.TAKING_OVER if self._can_take_over() else Stage.PREPARING
        return Stage.BONDED if bond is not None and bond.complete else Stage.BUILDING

    def waiting(self) -> Iterator[str]:
        """Describe the states that keep the pair from its end."""
        bond, standby, vf = self.pair.bond, self.pair.standby, self.pair.vf
        for nic in self.pair.nics:
            if not nic.settled and not nic.is_port_of(bond):
                yield f"{nic.name}: udev has not finished with it"
        if vf is not None and vf.is_port_of(bond) and not vf.operational:
            yield f"{vf.name} is a port of {self.bond} and has no carrier yet"
        if not self._standby_in_use or self.stage is Stage.TAKING_OVER:
            return
        if vf is None:
            yield (
                f"{standby.name} is in use and the VF is away: it joins a bond when"
                " the VF comes or at the next boot"
            )
        elif bond is not None:
            yield f"{standby.name} keeps the traffic until {self.bond} has a carrier"

    def actions(self) -> Iterator[act.Action]:
        """Yield the steps up to the next state that must be waited for."""
        window_open = self._state is not None and self._state.all_ports_active
        for action in self._steps() if self.stage is not Stage.BLOCKED else ():
            if isinstance(action, act.SetAllPortsActive) and action.on:
                if window_open:
                    continue
                window_open = True
            yield action

    def _steps(self) -> Iterator[act.Action]:
        files = list(self._write_stack_files())
        port_changes = [*self._join_vf(), *self._join_standby(), *self._prefer()]
        yield from self._create()
        yield from self._tune()
        yield from self._copy_settings()
        yield from files
        yield from port_changes
        yield from self._complete()
        if files and self._is_complete:
            yield act.ReloadStack(self.bond, "its configuration has changed")
        state = self._state
        if not port_changes and state is not None and state.all_ports_active and state.path_stable:
            yield act.SetAllPortsActive(self.bond, "the path has settled", on=False)
        # Last, so that a full disk keeps the pair from nothing else.
        yield from self._remember()

    def _remember(self) -> Iterator[act.Action]:
        known = any(
            item.mac == self.pair.mac and item.bond == self.bond
            for item in self.snapshot.remembered
        )
        if not known and self.pair.vf is not None:
            yield act.RememberPair(self.bond, "a boot without the VF needs it", mac=self.pair.mac)

    def _write_stack_files(self) -> Iterator[act.Action]:
        """Give the stack the bond's files when the bond is about to take over.

        Until then the NIC must keep its configuration, at the next boot too.
        """
        if self.stage is Stage.PREPARING:
            return
        for file in self.snapshot.stack_files.get(self.bond, ()):
            if not file.in_place:
                yield act.WriteStackFile(
                    self.bond,
                    "the owner of the addresses must know the bond",
                    path=file.path,
                    content=file.content,
                )

    def _create(self) -> Iterator[act.Action]:
        if self.pair.bond is not None:
            return
        for file in self.snapshot.stack_files.get(self.bond, ()):
            if file.pre_takeover_content is not None and self._standby_in_use:
                yield act.WriteStackFile(
                    self.bond,
                    f"{self.pair.standby.name} has its addresses still",
                    path=file.path,
                    content=file.pre_takeover_content,
                    until_takeover=True,
                )
        yield act.CreateBond(
            self.bond,
            "the pair has none",
            mac=self.pair.mac,
            mtu=self.pair.standby.mtu,
            options=self.policy.of_pair(self.pair.mac).options,
            ipv6_autoconf=self._created_with_ipv6,
        )

    @property
    def _created_with_ipv6(self) -> bool:
        """Whether the kernel may make addresses on a new bond and listen to routers on it."""
        kernel = self.pair.standby.autoconfiguration is Autoconfiguration.KERNEL
        return kernel and not self._standby_in_use

    def _copy_settings(self) -> Iterator[act.Action]:
        """Give the bond the NIC's settings: when it is made, and before it takes over."""
        standby = self.pair.standby
        settings = standby.settings or ()
        addressing = standby.addressing
        loosen = self._standby_in_use and addressing is not None and addressing.rp_filter
        if not self._created_with_ipv6:
            # Until the takeover the bond would make addresses beside the NIC's, and drop
            # packets that the VF receives. It gets these two settings as the NIC had them
            # afterwards; at boot the stack sets them.
            later = {ACCEPT_RA, RP_FILTER} if loosen else {ACCEPT_RA}
            settings = tuple(item for item in settings if item.key not in later)
        due = self.pair.bond is None or self.stage is not Stage.PREPARING
        if (settings or loosen) and due and not self._is_complete:
            yield act.CopySettings(
                self.bond, f"{standby.name} has them", settings=settings, loosen_rp_filter=loosen
            )

    def _tune(self) -> Iterator[act.Action]:
        """Follow a change of those options that may change while the bond has ports."""
        state = self._state
        options = self.policy.of_pair(self.pair.mac).options
        if state is not None and (state.miimon_ms, state.announcements) != (
            options.miimon_ms,
            options.announcements,
        ):
            yield act.TuneBond(
                self.bond,
                "the configuration wants it",
                miimon_ms=options.miimon_ms,
                announcements=options.announcements,
            )

    def _join_vf(self) -> Iterator[act.Action]:
        vf = self.pair.vf
        if vf is None or vf.is_port_of(self.pair.bond) or not vf.settled:
            return
        yield act.SetAllPortsActive(self.bond, "the VF joins", on=True)
        yield from self._join(vf, "the VF is there")

    def _join_standby(self) -> Iterator[act.Action]:
        bond, standby = self.pair.bond, self.pair.standby
        if standby.is_port_of(bond) or not standby.settled:
            return
        if self._standby_in_use and (bond is None or not bond.up):
            # Make before break: the bond must carry before it takes the addresses.
            yield act.SetUp(self.bond, f"it relieves {standby.name}", up=True)
        if self.stage is Stage.PREPARING:
            return
        if self.stage is Stage.TAKING_OVER:
            yield from self._take_over()
        else:
            yield from self._allow_ipv6()
        yield act.SetAllPortsActive(self.bond, "the standby joins", on=True)
        yield from self._join(standby, "the pair needs its standby")

    def _take_over(self) -> Iterator[act.Action]:
        """Move the addressing of the standby to the bond."""
        standby = self.pair.standby
        yield act.DetachFromStack(self.bond, "its addresses are to move", port=standby.ref)
        if standby.addressing is not None:
            yield act.MoveAddressing(
                self.bond,
                f"{standby.name} becomes a port",
                port=standby.ref,
                to_bond=True,
                addressing=standby.addressing,
            )
        yield from self._allow_ipv6()
        yield from self._accept_ra()

    def _allow_ipv6(self) -> Iterator[act.Action]:
        """Let the kernel make IPv6 addresses on the bond if it did so on the standby."""
        bond, standby = self.pair.bond, self.pair.standby
        off = (
            not self._created_with_ipv6
            if bond is None
            else not bond.ipv6_addr_gen and not bond.complete
        )
        by_stack = standby.autoconfiguration is Autoconfiguration.STACK
        if off and standby.ipv6_addr_gen and not by_stack:
            yield act.SetIpv6AddrGen(self.bond, "it has the addresses now", on=True)

    def _accept_ra(self) -> Iterator[act.Action]:
        """Let the bond take router advertisements as the NIC did: it has the addresses now.

        Where the stack makes all addresses the kernel listens to no router, whatever the NIC's
        setting: after a restart of dhcpcd it may be 1, and the kernel's address stood beside
        dhcpcd's.
        """
        standby = self.pair.standby
        settings: tuple[Setting, ...] = tuple(
            item for item in standby.settings or () if item.key == ACCEPT_RA
        )
        if settings and standby.autoconfiguration is not Autoconfiguration.STACK:
            reason = f"{standby.name} did"
            yield act.CopySettings(self.bond, reason, settings=settings)

    def _prefer(self) -> Iterator[act.Action]:
        """Make the port the primary that is to carry the traffic now."""
        bond, standby, vf = self.pair.bond, self.pair.standby, self.pair.vf
        primary = self._state.primary if self._state is not None else None
        standby_usable = standby.is_port_of(bond) and standby.carrier
        if self.pair.mac in self.snapshot.held:
            if standby_usable:
                yield from self._make_primary(standby, "the standby is asked for")
        elif self.pair.mac in self.snapshot.avoided:
            if standby_usable:
                yield from self._make_primary(standby, "the VF has no path")
        elif vf is not None and vf.is_port_of(bond) and vf.operational:
            yield from self._make_primary(vf, "the VF is preferred")
        elif vf is not None and primary == vf.ifindex and standby.is_port_of(bond):
            # As the primary the VF would be active again with its carrier, which comes
            # before the kernel transmits on it.
            yield from self._make_primary(standby, "the VF is not operational")

    def _make_primary(self, port: Link, reason: str) -> Iterator[act.Action]:
        """Move the traffic to a port and keep it there.

        The primary decides, for a bond without one takes the port that joined
        first at every event, whichever was made active (K: drivers/net/bonding/
        bond_main.c, bond_choose_primary_or_current (6.0 and later)).
        """
        state = self._state
        if state is not None and state.primary == port.ifindex:
            return
        if state is None or state.active != port.ifindex:
            yield act.SetAllPortsActive(self.bond, f"the traffic moves to {port.name}", on=True)
        yield act.SetPrimary(self.bond, reason, port=port.ref)

    def _complete(self) -> Iterator[act.Action]:
        """Finish the bond; the mark is the last step, so that a crash repeats the others."""
        bond, standby = self.pair.bond, self.pair.standby
        if self._is_complete or self.stage is Stage.PREPARING:
            return
        if (bond is None or not bond.up) and self.stage is Stage.BUILDING:
            yield act.SetUp(self.bond, "its ports have joined", up=True)
        if standby.is_port_of(bond) or standby.settled:
            yield act.ReloadStack(self.bond, "it takes over from the NIC")
            yield act.MarkBond(self.bond, "it is complete", mac=self.pair.mac)

    def _join(self, nic: Link, reason: str) -> Iterator[act.Action]:
        if nic.ipv6_addr_gen:
            yield act.SetIpv6AddrGen(
                self.bond, "the bond has the addresses", port=nic.ref, on=False
            )
        if nic.up:
            yield act.SetUp(self.bond, "a port must be down to join", port=nic.ref, up=False)
        yield act.AddPort(self.bond, reason, port=nic.ref)

    @property
    def _state(self) -> BondState | None:
        return self.pair.state

    @property
    def _is_complete(self) -> bool:
        return self.pair.bond is not None and self.pair.bond.complete

    @property
    def _standby_in_use(self) -> bool:
        """Whether the standby has the guest's addresses itself."""
        standby = self.pair.standby
        return bool(standby.addresses) and not standby.is_port_of(self.pair.bond)

    def _can_take_over(self) -> bool:
        """Whether the bond works and all addressing of the standby is known."""
        bond, standby, vf = self.pair.bond, self.pair.standby, self.pair.vf
        vf_ready = vf is None or (vf.is_port_of(bond) and vf.operational)
        known = standby.addressing is not None
        return bond is not None and bond.operational and vf_ready and known
