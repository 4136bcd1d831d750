"""Carrying out a plan: one action after the other, for each bond up to the first that fails.

A failure leaves the guest with its network, because every prefix of a plan
does; the burst that moves addresses and routes takes back what it did when the
kernel refuses a part of it. What is done for one bond needs nothing of another.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Protocol

from guestagent.errors import ConflictError, GuestAgentError
from guestagent.guest.core.actions import (
    Action,
    AddPort,
    BondUp,
    CarrySettings,
    CloseWindow,
    CreateBond,
    DeleteBond,
    FreeBond,
    FreePort,
    GiveBack,
    HoldOffStack,
    LetGo,
    MarkBond,
    MoveNetwork,
    OpenWindow,
    PortDown,
    PortRef,
    PortUp,
    QuietPort,
    ReleasePort,
    ReloadStack,
    RememberPair,
    RemoveStackFiles,
    SetPrimary,
    TuneBond,
    WriteStackFile,
    describe,
)
from guestagent.guest.core.announcement import Frame, address_frames, location_frame
from guestagent.guest.core.journal_ids import Message, fields
from guestagent.guest.core.model import (
    ACCEPT_RA,
    BIRTHMARK,
    FAIL_OVER_MAC_NONE,
    RP_FILTER,
    STANDBY_DRIVER,
    Address,
    Link,
    Remembered,
    Setting,
    bond_alias,
)
from guestagent.guest.kernel.protocol import Kernel, KernelError
from guestagent.guest.stacks.select import Stacks

MAC_REFUSED = {errno.EACCES, errno.EADDRNOTAVAIL, errno.EAGAIN, errno.EOPNOTSUPP, errno.EPERM}
"""What drivers answer who may not or cannot write a VF's MAC (K: ndo_set_mac_address of
drivers/net/ethernet/intel/iavf, igbvf and ixgbevf (6.12))."""

_log = logging.getLogger("guestagent.apply")


class PairMemory(Protocol):
    """The writing side of the remembered pairs."""

    def add(self, item: Remembered) -> None:
        """Remember a pair."""


class Applier:
    """Turns actions into requests; ``send`` puts frames on the wire."""

    def __init__(
        self,
        *,
        kernel: Kernel,
        stacks: Stacks,
        memory: PairMemory,
        send: Callable[[tuple[Frame, ...]], int],
    ) -> None:
        self._kernel = kernel
        self._stacks = stacks
        self._memory = memory
        self._send = send

    def apply(self, actions: Sequence[Action]) -> dict[str, GuestAgentError]:
        """Carry out actions in order; return by bond what failed.

        What failed was the last thing tried for its bond, and is gone back from before
        anything is done for another: a network stack that is told to read its files reads
        those of all bonds. Where going back fails too, nothing more is done.
        """
        failed: dict[str, GuestAgentError] = {}
        for action in actions:
            if action.bond in failed:
                continue
            try:
                self._perform(action)
            except OSError as error:
                failed[action.bond] = GuestAgentError(f"could not {describe(action)}: {error}")
            except GuestAgentError as error:
                failed[action.bond] = error
            else:
                _log.info("%s: %s", describe(action), action.reason, extra=_fields(action))
                continue
            if not self._abandoned(action):
                first = failed[action.bond]
                return {other.bond: failed.get(other.bond, first) for other in actions}
        return failed

    def _abandoned(self, failed: Action) -> bool:
        """Take away a bond that was begun and has no port, with its stack files.

        Nothing depends on such a bond. A NIC that has not joined has its
        configuration back in any case: what happens next may take long.
        """
        name = failed.bond
        try:
            links = self._kernel.links()
            bond = next((item for item in links if item.name == name), None)
            if bond is None and isinstance(failed, CreateBond):
                self._stacks.give_back(name)
            if bond is not None and bond.ours and not bond.complete:
                ports = [link for link in links if link.upper == bond.ifindex]
                if not ports:
                    self._delete(bond)
                elif all(port.driver != STANDBY_DRIVER for port in ports):
                    self._stacks.give_back(bond.name)
        except (GuestAgentError, OSError) as error:
            # The failure that led here is what is reported; this is tried again with it.
            _log.warning("while going back from %s: %s, ignoring", name, error)
            return False
        return True

    def _perform(self, action: Action) -> None:  # noqa: C901 - one line per action is the point
        kernel = self._kernel
        match action:
            case CreateBond():
                kernel.create_bond(
                    action.bond,
                    mac=action.mac,
                    mtu=action.mtu,
                    options=action.options,
                    group=BIRTHMARK,
                    ipv6_autoconf=not action.quiet,
                )
            case TuneBond():
                kernel.tune_bond(
                    self._bond(action.bond).ifindex,
                    miimon_ms=action.miimon_ms,
                    announcements=action.announcements,
                )
            case DeleteBond():
                self._delete(self._bond(action.bond))
            case MarkBond():
                kernel.set_alias(self._bond(action.bond).ifindex, bond_alias(action.mac))
            case HoldOffStack():
                self._stacks.hold_off(action.bond, action.path, action.content)
            case WriteStackFile():
                self._stacks.write(action.path, action.content)
            case LetGo():
                self._stacks.detach(action.bond, action.port.name)
            case ReloadStack():
                self._stacks.reload(action.bond)
            case OpenWindow() | CloseWindow():
                kernel.set_all_ports_active(
                    self._bond(action.bond).ifindex, enabled=isinstance(action, OpenWindow)
                )
            case QuietPort():
                kernel.set_ipv6_addr_gen(action.port.ifindex, on=False)
            case FreeBond():
                kernel.set_ipv6_addr_gen(self._bond(action.bond).ifindex, on=True)
            case FreePort():
                kernel.set_ipv6_addr_gen(action.port.ifindex, on=True)
            case PortDown():
                kernel.set_up(action.port.ifindex, up=False)
            case PortUp():
                self._up(action)
            case ReleasePort():
                self._release(action, self._bond(action.bond).ifindex)
            case AddPort():
                self._add_port(action)
            case SetPrimary():
                kernel.set_primary(self._bond(action.bond).ifindex, action.port.ifindex)
            case BondUp():
                kernel.set_up(self._bond(action.bond).ifindex, up=True)
            case MoveNetwork():
                self._move(action, action.port, _ref(self._bond(action.bond)))
            case GiveBack():
                self._move(action, _ref(self._bond(action.bond)), action.port)
            case CarrySettings():
                for setting in action.settings:
                    kernel.write_setting(self._bond(action.bond).name, setting)
                if action.loosen:
                    kernel.loosen_rp_filter(self._bond(action.bond).name)
            case RemoveStackFiles():
                self._stacks.give_back(action.bond)
            case RememberPair():
                self._memory.add(Remembered(mac=action.mac, bond=action.bond))

    def _delete(self, bond: Link) -> None:
        self._stacks.give_back(bond.name)
        self._kernel.delete_link(bond.ifindex)

    def _bond(self, name: str) -> Link:
        """Return the bond of that name as it is now; it must be one of ours."""
        link = self._kernel.link(name)
        if link is None or not link.ours:
            raise ConflictError(
                f"{name} {'vanished' if link is None else 'is not a bond of the agent'}",
                hint="it is planned anew from what is there",
            )
        return link

    def _add_port(self, action: AddPort) -> None:
        """Make a NIC a port of the bond, which writes its MAC though it is the same.

        Kernels from 6.5 on do not ask the driver then (K: net/core/dev.c, dev_set_mac_address).
        One that is asked and refuses joins a bond that writes none, which a bond can become as
        long as it has no port: what the kernel does by itself for a driver that cannot be asked
        (K: drivers/net/bonding/bond_main.c, bond_enslave (6.12)).
        """
        kernel, bond, port = self._kernel, self._bond(action.bond), action.port
        try:
            kernel.set_upper(port.ifindex, bond.ifindex)
        except KernelError as error:
            writes = bond.bond is not None and bond.bond.fail_over_mac == FAIL_OVER_MAC_NONE
            if not writes or error.code not in MAC_REFUSED:
                raise
            if any(link.upper == bond.ifindex for link in kernel.links()):
                error.hint = (
                    "if the kernel's log says that it was about the MAC (set_mac_address), set"
                    ' fail-over-mac = "active" in guestagent.toml and reboot'
                )
                raise
            _log.warning("%s; trying again with fail-over-mac = active", error)
            kernel.set_fail_over_mac_active(bond.ifindex)
            kernel.set_upper(port.ifindex, bond.ifindex)

    def _up(self, action: PortUp) -> None:
        link = self._link(action.port.ifindex)
        if action.deaf and link is not None:
            self._kernel.write_setting(link.name, Setting(key=ACCEPT_RA, value="0"))
        self._kernel.set_up(action.port.ifindex, up=True)

    def _release(self, action: ReleasePort, bond: int) -> None:
        """Take a port out of the bond that it was planned to leave, and of no other."""
        link = self._link(action.port.ifindex)
        if link is not None and link.upper == bond:
            self._kernel.set_upper(link.ifindex, None)

    def _link(self, ifindex: int) -> Link | None:
        return next((link for link in self._kernel.links() if link.ifindex == ifindex), None)

    def _move(self, what: MoveNetwork | GiveBack, source: PortRef, target: PortRef) -> None:
        """Put what belongs to ``source`` onto ``target``, then take it off ``source``.

        The address comes first, so that the same source address stays valid all
        the time; IPv4 routes change owner one by one, but for those behind another's,
        which are there twice for a moment, as IPv6 routes are. The kernel accepts what
        still arrives on the source for an address of any interface, unless a reverse
        path filter says otherwise.
        """
        with ExitStack() as back:
            filter_of_source = self._loosened(source, back) if what.loosen else None
            self._put(what, source, target, back)
            self._take(what, source, back)
            back.pop_all()
        if filter_of_source is not None:
            self._kernel.write_setting(target.name, filter_of_source)
        self._announce(target.ifindex, what.addresses)

    def _loosened(self, link: PortRef, back: ExitStack) -> Setting:
        """Let a link take what is answered through another; return what it had before."""
        kernel = self._kernel
        former = next(item for item in kernel.settings(link.name) if item.key == RP_FILTER)
        kernel.loosen_rp_filter(link.name)
        back.callback(_undo, partial(kernel.write_setting, link.name, former))
        return former

    def _put(
        self, what: MoveNetwork | GiveBack, source: PortRef, target: PortRef, back: ExitStack
    ) -> None:
        kernel = self._kernel
        for address in what.addresses:
            kernel.add_address(target.ifindex, address.renamed(source.name, target.name))
            back.callback(_undo, partial(kernel.delete_address, target.ifindex, address))
        for neighbour in what.neighbours:
            kernel.put_neighbour(target.ifindex, neighbour)
            back.callback(_undo, partial(kernel.delete_neighbour, target.ifindex, neighbour))
        # A route with a gateway needs the on-link route that leads to it.
        for route in sorted(what.routes, key=lambda route: route.gateway is not None):
            kernel.put_route(target.ifindex, route)
            if route.behind:
                back.callback(_undo, partial(kernel.delete_route, target.ifindex, route))
            back.callback(_undo, partial(kernel.put_route, source.ifindex, route))
        for rule in what.rules:
            moved = rule.renamed(source.name, target.name)
            kernel.add_rule(moved)
            back.callback(_undo, partial(kernel.delete_rule, moved))

    def _take(self, what: MoveNetwork | GiveBack, source: PortRef, back: ExitStack) -> None:
        kernel = self._kernel
        for rule in what.rules:
            back.callback(_undo, partial(kernel.add_rule, rule))
            kernel.delete_rule(rule)
        for route in what.routes:
            if route.family == socket.AF_INET6 or route.behind:
                kernel.delete_route(source.ifindex, route)
        for neighbour in what.neighbours:
            back.callback(_undo, partial(kernel.put_neighbour, source.ifindex, neighbour))
            kernel.delete_neighbour(source.ifindex, neighbour)
        for address in what.addresses:
            back.callback(_undo, partial(kernel.add_address, source.ifindex, address))
            kernel.delete_address(source.ifindex, address)

    def _announce(self, ifindex: int, addresses: tuple[Address, ...]) -> None:
        """Say where the addresses are now: a guest that is silent would never teach a switch.

        The kernel announces when the active port of a bond changes, and that was
        before the addresses came.
        """
        link = self._link(ifindex)
        if link is None:
            return
        try:
            self._send((location_frame(link), *address_frames(link, addresses)))
        except OSError as error:
            _log.warning("cannot announce on %s: %s, ignoring", link.name, error)


def _undo(step: Callable[[], None]) -> None:
    try:
        step()
    except GuestAgentError as error:
        _log.warning("while going back: %s, ignoring", error)


def _ref(link: Link) -> PortRef:
    return PortRef(ifindex=link.ifindex, name=link.name)


def _fields(action: Action) -> dict[str, str]:
    port = getattr(action, "port", None)
    return fields(
        Message.CHANGED,
        ACTION=type(action).__name__,
        BOND=action.bond,
        LINK=port.name if port is not None else None,
    )
