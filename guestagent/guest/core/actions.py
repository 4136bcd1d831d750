"""The actions of a plan: plain values, each with its reason.

Bonds are named, because a plan may concern a bond that does not exist yet; ports are given by
ifindex, because udev renames them. Every action is safe to repeat, and every prefix of a plan
leaves the guest with its network. Import it as ``actions as act``.
"""

from __future__ import annotations

from dataclasses import dataclass

from guestagent.guest.core.addressing import Addressing, Setting
from guestagent.guest.core.link import PortRef
from guestagent.guest.core.policy import BondOptions


@dataclass(frozen=True, slots=True)
class Action:
    """One step for one bond; what else a step needs is named in the call."""

    bond: str
    reason: str

    def __str__(self) -> str:
        """Describe the step as an imperative clause."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateBond(Action):
    """Create the bond with address and pending group in one message."""

    mac: str
    mtu: int
    options: BondOptions
    ipv6_autoconf: bool
    """False while the standby has the IPv6 addresses, or if a network stack makes them."""

    def __str__(self) -> str:
        return f"create {self.bond} with MAC {self.mac}, MTU {self.mtu}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneBond(Action):
    """Set the options of a bond that may change while it has ports."""

    miimon_ms: int
    announcements: int

    def __str__(self) -> str:
        return (
            f"let {self.bond} look at its ports every {self.miimon_ms} ms and announce"
            f" {self.announcements} times"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySettings(Action):
    """Copy settings of the NIC below /proc/sys/net to the bond."""

    settings: tuple[Setting, ...]
    loosen_rp_filter: bool = False
    """Whether the bond accepts all packets until it gets the NIC's filter with the addresses."""

    def __str__(self) -> str:
        keys = ", ".join(item.key for item in self.settings)
        also = ", and rp_filter so that it takes everything" if self.loosen_rp_filter else ""
        return f"set {keys or 'nothing'} of {self.bond} as on the NIC{also}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteBond(Action):
    """Delete a bond of the agent that has no port, with its stack files."""

    def __str__(self) -> str:
        return f"delete {self.bond}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkBond(Action):
    """Write the alias that marks the bond as complete."""

    mac: str

    def __str__(self) -> str:
        return f"mark {self.bond} as the agent's"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteStackFile(Action):
    """Write a file that makes a network stack configure the bond as it did the NIC."""

    path: str
    content: str
    until_takeover: bool = False
    """Whether the file keeps the stack off a bond that is about to be created."""

    def __str__(self) -> str:
        if self.until_takeover:
            return f"keep the network stack off {self.bond}"
        return f"write {self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DetachFromStack(Action):
    """Make the network stack leave a NIC, or the bond, alone with its addresses."""

    port: PortRef

    def __str__(self) -> str:
        return f"have the network stack leave {self.port.name} alone"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadStack(Action):
    """Make the network stack configure the bond from its files."""

    def __str__(self) -> str:
        return "reload the network stack"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveStackFiles(Action):
    """Remove the files by which the network stack knows the bond."""

    def __str__(self) -> str:
        return f"take the configuration of {self.bond} from the network stack"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAllPortsActive(Action):
    """Open or close the switch window (all_slaves_active).

    While it is open the bond accepts frames on its inactive port too; once it is closed no
    broadcast arrives twice.
    """

    on: bool

    def __str__(self) -> str:
        return f"let {self.bond} receive on {'both ports' if self.on else 'the active port only'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetIpv6AddrGen(Action):
    """Have the kernel make IPv6 addresses on a NIC or on the bond, or not."""

    port: PortRef | None = None
    """None is the bond."""
    on: bool

    def __str__(self) -> str:
        if self.port is None:
            return f"let {self.bond} have IPv6 autoconfiguration"
        if self.on:
            return f"let {self.port.name} have IPv6 autoconfiguration again"
        return f"keep IPv6 autoconfiguration off {self.port.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUp(Action):
    """Bring a NIC or the bond up, or take a NIC down.

    A NIC must be down to join a bond, by a message of its own.
    """

    port: PortRef | None = None
    """None is the bond."""
    up: bool
    accept_ra: bool = True
    """False keeps the kernel from listening to routers on a NIC that comes up."""

    def __str__(self) -> str:
        name = self.bond if self.port is None else self.port.name
        return f"bring {name} up" if self.up else f"take {name} down"


@dataclass(frozen=True, slots=True, kw_only=True)
class AddPort(Action):
    """Make a NIC a port of the bond."""

    port: PortRef

    def __str__(self) -> str:
        return f"add {self.port.name} to {self.bond}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovePort(Action):
    """Remove a port from the bond, which leaves the NIC down."""

    port: PortRef

    def __str__(self) -> str:
        return f"take {self.port.name} out of {self.bond}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPrimary(Action):
    """Move the traffic to a port and keep it there."""

    port: PortRef

    def __str__(self) -> str:
        return f"make {self.port.name} the primary of {self.bond}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveAddressing(Action):
    """Move all addressing from a NIC to the bond, or back, in one burst."""

    port: PortRef
    to_bond: bool
    addressing: Addressing

    def __str__(self) -> str:
        names = (self.port.name, self.bond) if self.to_bond else (self.bond, self.port.name)
        return f"move {self.addressing} from {names[0]} to {names[1]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberPair(Action):
    """Record the pair on disk for a boot without its VF."""

    mac: str

    def __str__(self) -> str:
        return f"remember {self.mac} as {self.bond}"
