"""Taking a bond of ours apart: from a snapshot to the steps that give its NIC the network back.

Pure, the reverse of ``plan``, and like it made from what is: any prefix of the
steps, planned from again, leads to the same end.

The order is make before break again. While a VF carries the traffic, the
standby leaves the bond, comes up by itself, and only when it sends does it take
addresses and routes back in one burst; what still arrives on the VF is taken
until the network has learnt. Without a VF the standby is the only way out: it
must be down for a moment to leave the bond, and the burst follows at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from guestagent.guest.core.actions import (
    Action,
    DeleteBond,
    FreePort,
    GiveBack,
    LetGo,
    OpenWindow,
    PortRef,
    PortUp,
    QuietPort,
    ReleasePort,
    ReloadStack,
    RemoveStackFiles,
    SetPrimary,
    WriteStackFile,
)
from guestagent.guest.core.model import STANDBY_DRIVER, Link, Refusal, Snapshot
from guestagent.guest.core.pairing import bond_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What takes the bonds of released pairs apart, and what keeps one together."""

    actions: tuple[Action, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    waiting: tuple[str, ...] = ()


def release(snapshot: Snapshot) -> Release:
    """Return the next steps for every released pair that still has a bond."""
    actions: list[Action] = []
    refusals: list[Refusal] = []
    waiting: list[str] = []
    for mac in sorted(snapshot.released):
        bond = bond_of(snapshot, mac)
        if bond is None:
            continue
        refusal = obstacle(snapshot, mac, bond)
        if refusal is not None:
            refusals.append(refusal)
            continue
        releaser = _Releaser(snapshot, mac, bond)
        actions.extend(releaser.actions())
        waiting.extend(releaser.waiting())
    return Release(actions=tuple(actions), refusals=tuple(refusals), waiting=tuple(waiting))


def obstacle(snapshot: Snapshot, mac: str, bond: Link) -> Refusal | None:
    """Return why a bond cannot be taken apart live, or None."""
    above = [link.name for link in snapshot.above(bond)]
    upper = snapshot.link(bond.upper)
    if upper is not None:
        above.append(f"{upper.kind or 'master'} {upper.name}")
    if not above:
        return None
    return Refusal(
        mac=mac,
        links=(bond.name,),
        reason=f"{', '.join(above)} uses {bond.name}, which would go with it",
        hint=f"take {bond.name} out of it or remove it first, and run `guestagent undo` again",
    )


@dataclass(frozen=True, slots=True)
class _Releaser:
    snapshot: Snapshot
    mac: str
    bond: Link

    def waiting(self) -> Iterator[str]:
        """Say what the next step needs."""
        heir = self._heir()
        if heir is None or not self._relieved():
            return
        if self._stranded(heir):
            yield f"{heir.name} has no carrier: {self.bond.name} stays until it could take over"
        elif self._joined(heir) or not heir.operational:
            yield f"{heir.name} takes the addresses of {self.bond.name} back once it has a carrier"
        elif not self._drained():
            yield f"{self.bond.name} takes what still arrives on the VF for a moment"

    def actions(self) -> Iterator[Action]:
        """Yield the steps up to the next state that must come by itself."""
        heir, bond = self._heir(), self.bond.name
        if heir is not None:
            if self._stranded(heir):
                return
            yield from self._free(heir)
            if self._relieved() and (self._joined(heir) or not heir.operational):
                return
            yield from self._give_back(heir)
        if self._relieved() and not self._drained():
            return
        yield RemoveStackFiles(bond=bond, reason="it goes")
        yield ReloadStack(bond=bond, reason="the NIC has its own configuration again")
        for port in self._vfs():
            if self._joined(port):
                yield ReleasePort(bond=bond, port=_ref(port), reason="the bond goes")
            if port.quiet and (self._joined(port) or not port.up):
                yield FreePort(bond=bond, port=_ref(port), reason="it is an ordinary NIC again")
        yield DeleteBond(bond=bond, reason="it was asked for")

    def _free(self, heir: Link) -> Iterator[Action]:
        """Get the NIC out of the bond and up, without addresses of its own."""
        port, bond = _ref(heir), self.bond.name
        if self._joined(heir):
            vf = self._carrier_but(heir)
            state = self.bond.bond
            if vf is not None and state is not None and state.active != vf.ifindex:
                yield OpenWindow(bond=bond, reason=f"the traffic moves to {vf.name}")
                yield SetPrimary(bond=bond, port=_ref(vf), reason=f"{heir.name} leaves")
            elif vf is not None and state is not None and not state.all_ports_active:
                yield OpenWindow(bond=bond, reason=f"{heir.name} leaves")
            if not heir.quiet:
                yield QuietPort(bond=bond, port=port, reason="the bond has the addresses")
            yield LetGo(bond=bond, port=port, reason="its addresses come back first")
            yield ReleasePort(bond=bond, port=port, reason="it goes on by itself")
        if self.bond.up and (self._joined(heir) or not heir.up):
            deaf = self.bond.quiet
            yield PortUp(bond=bond, port=port, deaf=deaf, reason="it takes the traffic")

    def _give_back(self, heir: Link) -> Iterator[Action]:
        bond = self.bond
        for file in self.snapshot.stack_files.get(bond.name, ()):
            if not file.in_place:
                yield WriteStackFile(
                    bond=bond.name,
                    path=file.path,
                    content=file.content,
                    reason=f"{heir.name} goes on with what it gets",
                )
        if bond.addresses or bond.routes:
            yield LetGo(bond=bond.name, port=_ref(bond), reason="its addresses are to move")
            yield GiveBack(
                bond=bond.name,
                port=_ref(heir),
                addresses=bond.addresses,
                routes=bond.routes,
                rules=bond.rules,
                neighbours=bond.neighbours,
                loosen=bond.filtering,
                reason=f"{bond.name} goes",
            )
            yield RemoveStackFiles(bond=bond.name, reason=f"{heir.name} has the addresses")
            yield ReloadStack(bond=bond.name, reason=f"{heir.name} has the addresses")
        if (heir.quiet or self._joined(heir)) and not bond.quiet:
            yield FreePort(bond=bond.name, port=_ref(heir), reason="it has its addresses again")

    def _heir(self) -> Link | None:
        """Return the NIC that gets the network back: the standby, without one the VF."""
        ports = [nic for nic in self._nics() if self._joined(nic)]
        free = [nic for nic in self._nics() if nic.upper is None]
        standbys = [nic for nic in (*ports, *free) if nic.driver == STANDBY_DRIVER]
        return next(iter([*standbys, *ports]), None)

    def _vfs(self) -> tuple[Link, ...]:
        heir = self._heir()
        return tuple(nic for nic in self._nics() if nic != heir)

    def _carrier_but(self, heir: Link) -> Link | None:
        """Return the VF that can carry the traffic meanwhile, or None."""
        if self.mac in self.snapshot.held | self.snapshot.avoided:
            return None
        return next(
            (vf for vf in self._vfs() if self._joined(vf) and vf.operational and vf != heir), None
        )

    def _relieved(self) -> bool:
        """Whether a VF carries while the NIC is prepared."""
        heir = self._heir()
        return heir is not None and self.bond.operational and self._carrier_but(heir) is not None

    def _stranded(self, heir: Link) -> bool:
        """Whether the NIC could not take over what a VF carries."""
        return self._relieved() and self._joined(heir) and not heir.carrier

    def _drained(self) -> bool:
        """Whether the bond has been without addresses for long enough."""
        state = self.bond.bond
        return not self.bond.addresses and (state is None or state.steady)

    def _nics(self) -> tuple[Link, ...]:
        return tuple(
            link
            for link in self.snapshot.links
            if link.physical and link.permanent_address == self.mac
        )

    def _joined(self, link: Link) -> bool:
        return link.upper == self.bond.ifindex


def _ref(link: Link) -> PortRef:
    return PortRef(ifindex=link.ifindex, name=link.name)
