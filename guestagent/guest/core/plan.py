"""A plan, and the names under which its actions are published. Pure.

``guestagent plan --json`` and the journal's ``ACTION=`` are interfaces: their names stay when a
class or a field gets another name, or when two classes become one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from guestagent.guest.core import actions as act
from guestagent.guest.core.addressing import Addressing
from guestagent.guest.core.pair import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Actions in order, the NICs that are left alone, and states that the next step needs."""

    actions: tuple[act.Action, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    waiting: tuple[str, ...] = ()

    def __add__(self, other: Plan) -> Plan:
        return Plan(
            actions=self.actions + other.actions,
            refusals=self.refusals + other.refusals,
            waiting=self.waiting + other.waiting,
        )

    def as_json(self) -> dict[str, object]:
        """Return the versioned JSON form: name, description and values of each action."""
        return {
            "version": 1,
            "actions": [
                {
                    "action": published_name(action),
                    "does": str(action),
                    "bond": action.bond,
                    **_published_values(action),
                    "reason": action.reason,
                }
                for action in self.actions
            ],
            "left_alone": [asdict(item) for item in self.refusals],
            "waiting": list(self.waiting),
        }


def published_name(action: act.Action) -> str:
    """Return the name of an action in JSON and in the journal."""
    match action:
        case act.WriteStackFile(until_takeover=True):
            return "HoldOffStack"
        case act.SetAllPortsActive():
            return "OpenWindow" if action.on else "CloseWindow"
        case act.SetIpv6AddrGen(port=None):
            return "FreeBond"
        case act.SetIpv6AddrGen():
            return "FreePort" if action.on else "QuietPort"
        case act.SetUp(port=None):
            return "BondUp"
        case act.SetUp():
            return "PortUp" if action.up else "PortDown"
        case act.MoveAddressing():
            return "MoveNetwork" if action.to_bond else "GiveBack"
    former = {"CopySettings": "CarrySettings", "DetachFromStack": "LetGo"}
    name = type(action).__name__
    return {**former, "RemovePort": "ReleasePort"}.get(name, name)


def _published_values(action: act.Action) -> dict[str, object]:
    match action:
        case act.CreateBond(mac=mac, mtu=mtu, options=options):
            quiet = not action.ipv6_autoconf
            return {"mac": mac, "mtu": mtu, "options": asdict(options), "quiet": quiet}
        case act.CopySettings(settings=settings, loosen_rp_filter=loosen):
            return {"settings": [asdict(item) for item in settings], "loosen": loosen}
        case act.WriteStackFile(path=path, content=content):
            return {"path": path, "content": content}
        case act.MoveAddressing(port=port, addressing=addressing):
            return {"port": asdict(port), **_published_addressing(addressing)}
        case act.SetUp(port=port, up=True, accept_ra=accept_ra) if port is not None:
            return {"port": asdict(port), "deaf": not accept_ra}
        case act.SetUp(port=port) | act.SetIpv6AddrGen(port=port):
            return {"port": asdict(port)} if port is not None else {}
    common = {item.name for item in fields(act.Action)} | {"on"}
    return {name: value for name, value in asdict(action).items() if name not in common}


def _published_addressing(addressing: Addressing) -> dict[str, object]:
    values = asdict(addressing)
    loosen = values.pop("rp_filter")
    for route in values["routes"]:
        route["behind"] = route.pop("shadowed")
    return {**values, "loosen": loosen}
