"""A kernel in memory: links, bonds, addresses and routes with the rules that matter.

It keeps state and answers as the real one does (a port must be down to join,
a primary is a name, the active port follows carrier and primary), and it fails
on request. The contract tests hold it to the real kernel.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass, field, replace

from guestagent.errors import SystemLacksError
from guestagent.guest.core.addressing import (
    ACCEPT_RA,
    RP_FILTER,
    Address,
    Neighbour,
    Route,
    Rule,
    Setting,
)
from guestagent.guest.core.link import BondState, Link
from guestagent.guest.core.policy import FAIL_OVER_MAC_ACTIVE, BondOptions
from guestagent.guest.kernel.protocol import KernelError
from tests.fakes.routing import Places, place, reaches, reported, unroute

DEFAULTS = {RP_FILTER: "0", ACCEPT_RA: "1"}  # what a new link has below /proc/sys/net

RANDOM_MAC = "02:00:00:00:00:01"
"""MAC address that an empty bond takes in place of its own."""


@dataclass
class FakeKernel:
    """The Kernel protocol over dictionaries."""

    bonding: bool = True
    table: dict[int, Link] = field(default_factory=dict)
    primaries: dict[int, str] = field(default_factory=dict)
    owned: dict[int, list[Address]] = field(default_factory=dict)
    routed: dict[int, list[Route]] = field(default_factory=dict)
    places: Places = field(default_factory=dict)
    """Order of IPv4 routes with one key; 0 without an entry."""
    own_mtus: dict[int, int] = field(default_factory=dict)
    """MTU of each port before it joined, in the order of joining."""
    refusals: list[tuple[str, int]] = field(default_factory=list)
    next_ifindex: int = 2
    stalled: set[int] = field(default_factory=set)
    """Links on which the kernel does not send yet, although they have a carrier."""
    ruled: list[Rule] = field(default_factory=list)
    set_neighbours: dict[int, list[Neighbour]] = field(default_factory=dict)
    tuned: dict[str, dict[str, str]] = field(default_factory=lambda: {"default": DEFAULTS})
    """Settings below /proc/sys/net that were written, by the name of a link."""
    unmovable_parts: dict[int, tuple[str, ...]] = field(default_factory=dict)
    tx_backlogs: dict[int, int] = field(default_factory=dict)
    """Packets that are queued for transmission on a link."""
    answering: set[str] = field(default_factory=set)
    """Neighbours that answer when they are solicited."""
    proven: dict[int, set[str]] = field(default_factory=dict)

    # what the test does to the guest

    def plug(
        self,
        name: str,
        mac: str,
        *,
        driver: str = "e1000e",
        carrier: bool = True,
        net_failover: bool = False,
        up: bool = False,
    ) -> int:
        """Plug a NIC in and return its ifindex."""
        ifindex = self.next_ifindex
        self.next_ifindex += 1
        self.table[ifindex] = Link(
            ifindex=ifindex,
            name=name,
            address=mac,
            permanent_address=mac,
            driver=driver,
            bus_address=f"0000:00:{ifindex:02x}.0",
            carrier=carrier,
            net_failover=net_failover,
            up=up,
        )
        return ifindex

    def add_virtual(self, name: str, mac: str, kind: str, *, lower: int | None = None) -> int:
        """Add a VLAN, bridge or the like."""
        ifindex = self.plug(name, mac)
        self.table[ifindex] = replace(
            self.table[ifindex],
            kind=kind,
            driver=None,
            permanent_address=None,
            lower=lower,
            bond=BondState(mode="active-backup") if kind == "bond" else None,
        )
        return ifindex

    def unplug(self, ifindex: int) -> None:
        """Pull a NIC."""
        upper = self.table.pop(ifindex).upper
        self.owned.pop(ifindex, None)
        self.routed.pop(ifindex, None)
        self.tx_backlogs.pop(ifindex, None)
        if upper is not None:
            self._left(upper)

    def rename(self, ifindex: int, name: str) -> None:
        """Rename a link, as udev does."""
        self._set(ifindex, name=name)
        for bond in self.primaries:
            self._select(bond)

    def set_carrier(self, ifindex: int, *, carrier: bool) -> None:
        """Change the carrier of a NIC."""
        self._set(ifindex, carrier=carrier)
        upper = self.table[ifindex].upper
        if upper is not None:
            self._select(upper)

    def refuse(self, method: str, code: int) -> None:
        """Refuse the next call of a method with an errno."""
        self.refusals.append((method, code))

    def named(self, name: str) -> Link:
        """Return the link of that name as ``links`` reports it."""
        return next(link for link in self.links() if link.name == name)

    # the protocol

    def close(self) -> None:
        """Nothing is held."""

    def links(self) -> tuple[Link, ...]:
        return tuple(self._reported(link) for link in self.table.values())

    def link(self, name: str) -> Link | None:
        return next((link for link in self.links() if link.name == name), None)

    def addresses(self, ifindex: int) -> tuple[Address, ...]:
        return tuple(self.owned.get(ifindex, ()))

    def routes(self, ifindex: int) -> tuple[Route, ...]:
        return reported(self.routed, self.places, ifindex)

    def rules(self, name: str) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.ruled if name in {rule.iif, rule.oif})

    def neighbours(self, ifindex: int) -> tuple[Neighbour, ...]:
        return tuple(self.set_neighbours.get(ifindex, ()))

    def settings(self, name: str) -> frozenset[Setting]:
        values = {**self.tuned["default"], **self.tuned.get(name, {})}
        return frozenset(Setting(key=key, value=value) for key, value in values.items())

    def has_rp_filter(self, name: str) -> bool:
        return Setting(key=RP_FILTER, value="0") not in self.settings(name)

    def unmovable(self, ifindex: int) -> tuple[str, ...]:
        return self.unmovable_parts.get(ifindex, ())

    def tx_backlog(self, ifindex: int) -> int:
        return self.tx_backlogs.get(ifindex, 0)

    def create_bond(
        self,
        name: str,
        *,
        mac: str,
        mtu: int,
        options: BondOptions,
        group: int,
        ipv6_autoconf: bool,
    ) -> None:
        self._maybe_refuse("create_bond")
        if not self.bonding:
            raise SystemLacksError("this kernel has no bonding module", hint="install it")
        if any(link.name == name for link in self.table.values()):
            raise KernelError(f"could not create {name}", errno.EEXIST)
        ifindex = self.add_virtual(name, mac, "bond")
        if not ipv6_autoconf:
            self.tuned[name] = {ACCEPT_RA: "0"}
        self._set(ifindex, mtu=mtu, group=group, ipv6_addr_gen=ipv6_autoconf, carrier=False)
        state = BondState(
            mode="active-backup",
            miimon_ms=options.miimon_ms,
            fail_over_mac=options.fail_over_mac,
            announcements=options.announcements,
        )
        self._set(ifindex, bond=state)

    def delete_link(self, ifindex: int) -> None:
        self._maybe_refuse("delete_link")
        self._get(ifindex)
        for link in self._ports(ifindex):
            self._release(link)
        self.unplug(ifindex)

    def set_alias(self, ifindex: int, alias: str) -> None:
        self._maybe_refuse("set_alias")
        self._set(ifindex, alias=alias, group=0)

    def set_up(self, ifindex: int, *, up: bool) -> None:
        self._maybe_refuse("set_up")
        self._set(ifindex, up=up)
        if not up:
            self._went_down(ifindex)

    def set_ipv6_addr_gen(self, ifindex: int, *, on: bool) -> None:
        self._maybe_refuse("set_ipv6_addr_gen")
        self._set(ifindex, ipv6_addr_gen=on)

    def set_upper(self, ifindex: int, upper: int | None) -> None:
        self._maybe_refuse("set_upper")
        link = self._get(ifindex)
        former = link.upper
        if upper is not None and link.up:
            raise KernelError(f"could not make link {ifindex} a port", errno.EPERM)
        if upper is not None:
            bond = self._get(upper)
            if bond.address == RANDOM_MAC:
                self._set(upper, address=link.address)
            self.own_mtus[ifindex] = link.mtu
            self._set(ifindex, upper=upper, up=True, mtu=bond.mtu)
            self._select(upper)
        elif former is not None:
            self._release(link)
            self._left(former)

    def tune_bond(self, bond: int, *, miimon_ms: int, announcements: int) -> None:
        self._maybe_refuse("tune_bond")
        self._set_bond(bond, miimon_ms=miimon_ms, announcements=announcements)

    def set_fail_over_mac_active(self, bond: int) -> None:
        self._maybe_refuse("set_fail_over_mac_active")
        if self._ports(bond):
            raise KernelError(f"could not set fail_over_mac of bond {bond}", errno.ENOTEMPTY)
        self._set_bond(bond, fail_over_mac=FAIL_OVER_MAC_ACTIVE)

    def set_primary(self, bond: int, port: int | None) -> None:
        self._maybe_refuse("set_primary")
        if port is None:
            self.primaries.pop(bond, None)
        else:
            self.primaries[bond] = self._get(port).name
        self._select(bond)

    def set_all_ports_active(self, bond: int, *, enabled: bool) -> None:
        self._maybe_refuse("set_all_ports_active")
        self._set_bond(bond, all_ports_active=enabled)

    def add_address(self, ifindex: int, address: Address) -> None:
        self._maybe_refuse("add_address")
        self._get(ifindex)
        owned = self.owned.setdefault(ifindex, [])
        owned[:] = [item for item in owned if item.address != address.address] + [address]

    def delete_address(self, ifindex: int, address: Address) -> None:
        self._maybe_refuse("delete_address")
        owned = self.owned.setdefault(ifindex, [])
        owned[:] = [item for item in owned if item.address != address.address]

    def put_route(self, ifindex: int, route: Route) -> None:
        self._maybe_refuse("put_route")
        if not self._get(ifindex).up:
            raise KernelError("could not put a route", errno.ENETDOWN)
        if route.gateway is not None and not reaches(
            route.gateway, self.owned.get(ifindex, ()), self.routed.get(ifindex, ())
        ):
            raise KernelError("could not put a route", errno.ENETUNREACH)
        place(self.routed, self.places, ifindex, route)

    def delete_route(self, ifindex: int, route: Route) -> None:
        self._maybe_refuse("delete_route")
        unroute(self.routed, self.places, ifindex, route)

    def add_rule(self, rule: Rule) -> None:
        self._maybe_refuse("add_rule")
        if rule not in self.ruled:
            self.ruled.append(rule)

    def delete_rule(self, rule: Rule) -> None:
        self._maybe_refuse("delete_rule")
        if rule in self.ruled:
            self.ruled.remove(rule)

    def put_neighbour(self, ifindex: int, neighbour: Neighbour) -> None:
        self._maybe_refuse("put_neighbour")
        self._get(ifindex)
        self._forget(ifindex, neighbour)
        self.set_neighbours[ifindex].append(neighbour)

    def delete_neighbour(self, ifindex: int, neighbour: Neighbour) -> None:
        self._maybe_refuse("delete_neighbour")
        self._forget(ifindex, neighbour)

    def write_setting(self, name: str, setting: Setting) -> None:
        self._maybe_refuse("write_setting")
        if all(link.name != name for link in self.table.values()):
            raise KernelError(f"could not write to {name}", errno.ENOENT)
        self.tuned.setdefault(name, {})[setting.key] = setting.value

    def loosen_rp_filter(self, name: str) -> None:
        self.write_setting(name, Setting(key=RP_FILTER, value="0"))

    def solicit_neighbour(self, ifindex: int, family: int, address: str) -> None:
        self._maybe_refuse("solicit_neighbour")
        self._get(ifindex)
        if address in self.answering:
            self.proven.setdefault(ifindex, set()).add(address)
        else:
            self.proven.get(ifindex, set()).discard(address)

    def reachable_neighbours(self, ifindex: int) -> frozenset[str]:
        return frozenset(self.proven.get(ifindex, ()))

    # inside

    def _forget(self, ifindex: int, neighbour: Neighbour) -> None:
        known = self.set_neighbours.setdefault(ifindex, [])
        known[:] = [item for item in known if item.address != neighbour.address]

    def _ports(self, bond: int) -> list[Link]:
        """Return the ports in the order in which they joined."""
        joined = [self.table[ifindex] for ifindex in self.own_mtus if ifindex in self.table]
        return [link for link in joined if link.upper == bond]

    def _release(self, port: Link) -> None:
        """Take a port out of its bond: down, with the MTU that it had."""
        self._set(port.ifindex, upper=None, up=False, mtu=self.own_mtus.pop(port.ifindex))
        self._went_down(port.ifindex)

    def _left(self, bond: int) -> None:
        """Go on after a port has left; an empty bond takes a random MAC."""
        if not self._ports(bond):
            self._set(bond, address=RANDOM_MAC)
        self._select(bond)

    def _went_down(self, ifindex: int) -> None:
        """Take away what a link that is down does not keep."""
        self.routed.pop(ifindex, None)
        self.set_neighbours.pop(ifindex, None)
        owned = self.owned.get(ifindex, [])
        owned[:] = [item for item in owned if item.family != socket.AF_INET6]

    def _select(self, bond: int) -> None:
        """Choose the active port: the primary if it carries, else the one that joined first.

        The present one has no preference (K: drivers/net/bonding/bond_main.c,
        bond_choose_primary_or_current (6.0 and later)).
        """
        usable = [link for link in self._ports(bond) if link.up and link.carrier]
        primary = next((p for p in usable if p.name == self.primaries.get(bond)), None)
        chosen = primary or (usable[0] if usable else None)
        self._set_bond(bond, active=chosen.ifindex if chosen else None)

    def _reported(self, link: Link) -> Link:
        if link.bond is None:
            carrier = link.up and link.carrier
            sends = carrier and link.ifindex not in self.stalled
            return replace(link, carrier=carrier, operational=sends)
        ports = self._ports(link.ifindex)
        primary = next(
            (p.ifindex for p in ports if p.name == self.primaries.get(link.ifindex)), None
        )
        carrier = link.up and any(port.up and port.carrier for port in ports)
        state = replace(link.bond, primary=primary)
        return replace(link, carrier=carrier, operational=carrier, bond=state)

    def _get(self, ifindex: int) -> Link:
        if ifindex not in self.table:
            raise KernelError(f"link {ifindex}", errno.ENODEV)
        return self.table[ifindex]

    def _set(self, ifindex: int, **changes: object) -> None:
        self.table[ifindex] = replace(self._get(ifindex), **changes)  # type: ignore[arg-type]

    def _set_bond(self, ifindex: int, **changes: object) -> None:
        state = self._get(ifindex).bond
        assert state is not None
        self._set(ifindex, bond=replace(state, **changes))  # type: ignore[arg-type]

    def _maybe_refuse(self, method: str) -> None:
        for refusal in self.refusals:
            if refusal[0] == method:
                self.refusals.remove(refusal)
                raise KernelError(f"could not {method}", refusal[1])
