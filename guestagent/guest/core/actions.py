"""The steps a plan is made of: plain values, each with the reason why.

Bonds are named, because a plan may speak of a bond that does not exist yet;
ports are given by ifindex, because udev renames them. Every action is safe to
repeat, and every prefix of a plan leaves the guest with its network.
"""

from __future__ import annotations

from dataclasses import dataclass

from guestagent.guest.core.model import Address, BondOptions, Neighbour, Route, Rule, Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRef:
    """A port in an action: the ifindex decides, the name is for people."""

    ifindex: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateBond:
    """Create the bond, address in the create message, bearing the birthmark."""

    bond: str
    mac: str
    mtu: int
    options: BondOptions
    quiet: bool
    """Without IPv6 addresses of the kernel: the standby still has them, or a stack makes them."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrySettings:
    """Give the bond the settings that the NIC has below /proc/sys/net."""

    bond: str
    settings: tuple[Setting, ...]
    loosen: bool = False
    """Whether it takes everything until it takes over from the NIC, whose filter it then gets."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneBond:
    """Set the options of a bond that may change while it has ports."""

    bond: str
    miimon_ms: int
    announcements: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteBond:
    """Take away a bond of ours that has no port, with its stack files."""

    bond: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkBond:
    """Write the alias that makes the bond ours for good: its construction is complete."""

    bond: str
    mac: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldOffStack:
    """Keep the network stack from a bond that is about to be made, until it takes over."""

    bond: str
    path: str
    content: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteStackFile:
    """Hand the NIC's configuration to the bond in the words of its network stack."""

    bond: str
    path: str
    content: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LetGo:
    """Make the network stack leave a NIC, or the bond, alone with the addresses that it has."""

    bond: str
    port: PortRef
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadStack:
    """Make the network stack configure the bond, from the files that were written."""

    bond: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenWindow:
    """Deliver what arrives on either port while the path moves (all_slaves_active)."""

    bond: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseWindow:
    """Drop again what arrives on the inactive port, so that no broadcast comes twice."""

    bond: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietPort:
    """Keep IPv6 address configuration off a port before it goes up."""

    bond: str
    port: PortRef
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PortDown:
    """Take a NIC down: a port must be down to join, in a message of its own."""

    bond: str
    port: PortRef
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddPort:
    """Make a NIC a port of the bond."""

    bond: str
    port: PortRef
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPrimary:
    """Move the traffic to a port and keep it there."""

    bond: str
    port: PortRef
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BondUp:
    """Bring the bond up."""

    bond: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveNetwork:
    """Put addresses and routes of a NIC onto the bond in one burst."""

    bond: str
    port: PortRef
    addresses: tuple[Address, ...]
    routes: tuple[Route, ...]
    rules: tuple[Rule, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    loosen: bool = False
    """Whether what still arrives where they were might be dropped (rp_filter)."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeBond:
    """Let the kernel make IPv6 addresses on the bond, as it did on the NIC."""

    bond: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasePort:
    """Take a port out of the bond, which leaves it down."""

    bond: str
    port: PortRef
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PortUp:
    """Bring up a NIC that has left the bond."""

    bond: str
    port: PortRef
    deaf: bool = False
    """Whether the kernel hears no routers on it: the network stack makes the addresses."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FreePort:
    """Let the kernel make IPv6 addresses on a NIC again."""

    bond: str
    port: PortRef
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveBack:
    """Put addresses and routes of a bond onto its NIC in one burst."""

    bond: str
    port: PortRef
    addresses: tuple[Address, ...]
    routes: tuple[Route, ...]
    rules: tuple[Rule, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    loosen: bool = False
    """Whether what still arrives where they were might be dropped (rp_filter)."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveStackFiles:
    """Take away what told the network stack of the bond."""

    bond: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberPair:
    """Note on disk that this pair exists, for a boot at which the VF is away."""

    bond: str
    mac: str
    reason: str


Action = (
    CreateBond
    | TuneBond
    | CarrySettings
    | DeleteBond
    | MarkBond
    | HoldOffStack
    | WriteStackFile
    | LetGo
    | ReloadStack
    | OpenWindow
    | CloseWindow
    | QuietPort
    | PortDown
    | AddPort
    | SetPrimary
    | BondUp
    | MoveNetwork
    | FreeBond
    | ReleasePort
    | PortUp
    | FreePort
    | GiveBack
    | RemoveStackFiles
    | RememberPair
)


def describe(action: Action) -> str:  # noqa: C901 - one line per action is the point
    """Say in a few words what an action does."""
    match action:
        case CreateBond():
            return f"create {action.bond} with MAC {action.mac}, MTU {action.mtu}"
        case TuneBond():
            return (
                f"let {action.bond} look at its ports every {action.miimon_ms} ms and announce"
                f" {action.announcements} times"
            )
        case CarrySettings():
            keys = ", ".join(item.key for item in action.settings)
            also = ", and rp_filter so that it takes everything" if action.loosen else ""
            return f"set {keys or 'nothing'} of {action.bond} as on the NIC{also}"
        case DeleteBond():
            return f"delete {action.bond}"
        case MarkBond():
            return f"mark {action.bond} as the agent's"
        case HoldOffStack():
            return f"keep the network stack off {action.bond}"
        case WriteStackFile():
            return f"write {action.path}"
        case LetGo():
            return f"have the network stack leave {action.port.name} alone"
        case ReloadStack():
            return "reload the network stack"
        case OpenWindow():
            return f"let {action.bond} receive on both ports"
        case CloseWindow():
            return f"let {action.bond} receive on the active port only"
        case QuietPort():
            return f"keep IPv6 autoconfiguration off {action.port.name}"
        case PortDown():
            return f"take {action.port.name} down"
        case AddPort():
            return f"add {action.port.name} to {action.bond}"
        case SetPrimary():
            return f"make {action.port.name} the primary of {action.bond}"
        case BondUp():
            return f"bring {action.bond} up"
        case MoveNetwork():
            return f"move {_belongings(action)} from {action.port.name} to {action.bond}"
        case FreeBond():
            return f"let {action.bond} have IPv6 autoconfiguration"
        case ReleasePort():
            return f"take {action.port.name} out of {action.bond}"
        case PortUp():
            return f"bring {action.port.name} up"
        case FreePort():
            return f"let {action.port.name} have IPv6 autoconfiguration again"
        case GiveBack():
            return f"move {_belongings(action)} from {action.bond} to {action.port.name}"
        case RemoveStackFiles():
            return f"take the configuration of {action.bond} from the network stack"
        case RememberPair():
            return f"remember {action.mac} as {action.bond}"


def _belongings(action: MoveNetwork | GiveBack) -> str:
    words = [f"{len(action.addresses)} addresses", f"{len(action.routes)} routes"]
    if action.rules:
        words.append(f"{len(action.rules)} rules")
    if action.neighbours:
        words.append(f"{len(action.neighbours)} neighbours")
    return f"{', '.join(words[:-1])} and {words[-1]}"
