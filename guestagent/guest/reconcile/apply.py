"""Application of a plan: one action after the other, for each bond up to the first failure.

A failure leaves the guest with its network, because every prefix of a plan does; a move of
addressing is rolled back if the kernel refuses a part of it. The actions of one bond need nothing
of another.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Sequence

from guestagent.errors import ConflictError, GuestAgentError
from guestagent.guest.core import actions as act
from guestagent.guest.core.addressing import ACCEPT_RA, Address, Setting
from guestagent.guest.core.announcement import Frame, address_frames, location_frame
from guestagent.guest.core.journal_ids import JournalId, fields
from guestagent.guest.core.link import PENDING_GROUP, STANDBY_DRIVER, Link, bond_alias
from guestagent.guest.core.plan import published_name
from guestagent.guest.core.policy import FAIL_OVER_MAC_NONE
from guestagent.guest.core.snapshot import RememberedPair
from guestagent.guest.kernel.protocol import Kernel, KernelError
from guestagent.guest.reconcile.move import move_addressing
from guestagent.guest.stacks.select import Stacks

MAC_REFUSED = {errno.EACCES, errno.EADDRNOTAVAIL, errno.EAGAIN, errno.EOPNOTSUPP, errno.EPERM}
"""Answers of drivers that may not or cannot write a VF's MAC (K: ndo_set_mac_address of
drivers/net/ethernet/intel/iavf, igbvf and ixgbevf (6.12))."""

_log = logging.getLogger("guestagent.apply")


class Applier:
    """Turns actions into requests; ``send`` puts frames on the wire."""

    def __init__(
        self,
        *,
        kernel: Kernel,
        stacks: Stacks,
        remember: Callable[[RememberedPair], None],
        send: Callable[[tuple[Frame, ...]], int],
    ) -> None:
        self._kernel = kernel
        self._stacks = stacks
        self._remember = remember
        self._send = send

    def apply(self, actions: Sequence[act.Action]) -> dict[str, GuestAgentError]:
        """Carry out actions in order; return the failures by bond.

        The first failure ends the actions of its bond. It is rolled back before anything is
        done for another bond: a network stack that reads its files reads those of all bonds.
        Where the rollback fails too, nothing more is done.
        """
        failed: dict[str, GuestAgentError] = {}
        for action in actions:
            if action.bond in failed:
                continue
            try:
                self._perform(action)
            except OSError as error:
                failed[action.bond] = GuestAgentError(f"could not {action}: {error}")
            except GuestAgentError as error:
                failed[action.bond] = error
            else:
                _log.info("%s: %s", action, action.reason, extra=_fields(action))
                continue
            if not self._rolled_back(action):
                first = failed[action.bond]
                return {other.bond: failed.get(other.bond, first) for other in actions}
        return failed

    def _rolled_back(self, failed: act.Action) -> bool:
        """Delete a bond that was begun and has no port, with its stack files.

        Nothing depends on such a bond. A NIC that has not joined has its configuration back in
        any case, because the next attempt may be long in coming.
        """
        name = failed.bond
        try:
            links = self._kernel.links()
            bond = next((item for item in links if item.name == name), None)
            if bond is None and isinstance(failed, act.CreateBond):
                self._stacks.give_back(name)
            if bond is not None and bond.ours and not bond.complete:
                ports = [link for link in links if link.is_port_of(bond)]
                if not ports:
                    self._delete(bond)
                elif all(port.driver != STANDBY_DRIVER for port in ports):
                    self._stacks.give_back(bond.name)
        except (GuestAgentError, OSError) as error:
            # The first failure is the one that is reported; this is tried again with it.
            _log.warning("while going back from %s: %s, ignoring", name, error)
            return False
        return True

    def _perform(self, action: act.Action) -> None:
        match action:
            case act.WriteStackFile(until_takeover=True):
                self._stacks.hold_off(action.bond, action.path, action.content)
            case act.WriteStackFile():
                self._stacks.write(action.path, action.content)
            case act.DetachFromStack():
                self._stacks.detach(action.bond, action.port.name)
            case act.ReloadStack():
                self._stacks.reload(action.bond)
            case act.RemoveStackFiles():
                self._stacks.give_back(action.bond)
            case act.RememberPair():
                self._remember(RememberedPair(mac=action.mac, bond=action.bond))
            case act.CreateBond():
                self._kernel.create_bond(
                    action.bond,
                    mac=action.mac,
                    mtu=action.mtu,
                    options=action.options,
                    group=PENDING_GROUP,
                    ipv6_autoconf=action.ipv6_autoconf,
                )
            case act.SetUp(port=port) if port is not None:
                self._set_up(action, port.ifindex)
            case act.SetIpv6AddrGen(port=port) if port is not None:
                self._kernel.set_ipv6_addr_gen(port.ifindex, on=action.on)
            case _:
                self._change_bond(action, self._bond(action.bond))

    def _change_bond(  # noqa: C901 - one case per action is the point
        self, action: act.Action, bond: Link
    ) -> None:
        kernel = self._kernel
        match action:
            case act.TuneBond():
                kernel.tune_bond(
                    bond.ifindex, miimon_ms=action.miimon_ms, announcements=action.announcements
                )
            case act.DeleteBond():
                self._delete(bond)
            case act.MarkBond():
                kernel.set_alias(bond.ifindex, bond_alias(action.mac))
            case act.CopySettings():
                for setting in action.settings:
                    kernel.write_setting(bond.name, setting)
                if action.loosen_rp_filter:
                    kernel.loosen_rp_filter(bond.name)
            case act.SetAllPortsActive():
                kernel.set_all_ports_active(bond.ifindex, enabled=action.on)
            case act.SetIpv6AddrGen():
                kernel.set_ipv6_addr_gen(bond.ifindex, on=action.on)
            case act.SetUp():
                kernel.set_up(bond.ifindex, up=action.up)
            case act.SetPrimary():
                kernel.set_primary(bond.ifindex, action.port.ifindex)
            case act.AddPort():
                self._add_port(action.port.ifindex, bond)
            case act.RemovePort():
                link = self._link(action.port.ifindex)
                if link is not None and link.is_port_of(bond):  # and of no other bond
                    kernel.set_upper(link.ifindex, None)
            case act.MoveAddressing(port=port, addressing=addressing):
                source, target = (port, bond.ref) if action.to_bond else (bond.ref, port)
                move_addressing(kernel, addressing, source, target)
                self._announce(target.ifindex, addressing.addresses)
            case _:
                raise NotImplementedError(type(action).__name__)

    def _delete(self, bond: Link) -> None:
        self._stacks.give_back(bond.name)
        self._kernel.delete_link(bond.ifindex)

    def _bond(self, name: str) -> Link:
        """Return the bond of that name as it is now. Raises ConflictError if it is not ours."""
        link = self._kernel.link(name)
        if link is None or not link.ours:
            raise ConflictError(
                f"{name} {'vanished' if link is None else 'is not a bond of the agent'}",
                hint="the agent makes a new plan",
            )
        return link

    def _add_port(self, port: int, bond: Link) -> None:
        """Make a NIC a port of the bond, which writes its MAC although it is the same.

        Kernels from 6.5 on do not ask the driver then (K: net/core/dev.c, dev_set_mac_address).
        A NIC whose driver is asked and refuses can join a bond that writes no MAC. A bond without
        ports can become one, as the kernel makes it for a driver that has no such operation
        (K: drivers/net/bonding/bond_main.c, bond_enslave (6.12)).
        """
        kernel = self._kernel
        try:
            kernel.set_upper(port, bond.ifindex)
        except KernelError as error:
            writes = bond.bond is not None and bond.bond.fail_over_mac == FAIL_OVER_MAC_NONE
            if not writes or error.code not in MAC_REFUSED:
                raise
            if any(link.is_port_of(bond) for link in kernel.links()):
                error.hint = (
                    "if the kernel's log says that it was about the MAC (set_mac_address), set"
                    ' fail-over-mac = "active" in guestagent.toml and reboot'
                )
                raise
            _log.warning("%s; trying again with fail-over-mac = active", error)
            kernel.set_fail_over_mac_active(bond.ifindex)
            kernel.set_upper(port, bond.ifindex)

    def _set_up(self, action: act.SetUp, ifindex: int) -> None:
        link = None if action.accept_ra else self._link(ifindex)
        if link is not None:
            self._kernel.write_setting(link.name, Setting(key=ACCEPT_RA, value="0"))
        self._kernel.set_up(ifindex, up=action.up)

    def _link(self, ifindex: int) -> Link | None:
        return next((link for link in self._kernel.links() if link.ifindex == ifindex), None)

    def _announce(self, ifindex: int, addresses: tuple[Address, ...]) -> None:
        """Announce the addresses on their new link, for a silent guest would teach no switch.

        The kernel announces when the active port of a bond changes, which was before the
        addresses arrived.
        """
        link = self._link(ifindex)
        if link is None:
            return
        try:
            self._send((location_frame(link), *address_frames(link, addresses)))
        except OSError as error:
            _log.warning("cannot announce on %s: %s, ignoring", link.name, error)


def _fields(action: act.Action) -> dict[str, str]:
    port = getattr(action, "port", None)
    return fields(
        JournalId.CHANGED,
        ACTION=published_name(action),
        BOND=action.bond,
        LINK=port.name if port is not None else None,
    )
