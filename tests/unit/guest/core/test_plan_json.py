"""The published form of a plan: `plan --json` and ACTION= keep their names and keys."""

from __future__ import annotations

import json

import pytest

from guestagent.guest.core import actions as act
from guestagent.guest.core.addressing import Addressing, Route, Setting
from guestagent.guest.core.link import PortRef
from guestagent.guest.core.plan import Plan, published_name
from guestagent.guest.core.policy import BondOptions

NIC = PortRef(ifindex=2, name="ens2")
ROUTE = Route(family=2, destination=None, prefix_length=0, gateway="192.0.2.1", shadowed=True)
MOVED = Addressing(routes=(ROUTE,), rp_filter=True)
MOVE_KEYS = {"port", "addresses", "routes", "rules", "neighbours", "loosen"}
BOND, WHY = "bond0", "a test"

PUBLISHED: dict[str, tuple[act.Action, set[str]]] = {
    "CreateBond": (
        act.CreateBond(BOND, WHY, mac="m", mtu=1500, options=BondOptions(), ipv6_autoconf=False),
        {"mac", "mtu", "options", "quiet"},
    ),
    "TuneBond": (
        act.TuneBond(BOND, WHY, miimon_ms=50, announcements=1),
        {"miimon_ms", "announcements"},
    ),
    "CarrySettings": (
        act.CopySettings(BOND, WHY, settings=(Setting(key="k", value="1"),)),
        {"settings", "loosen"},
    ),
    "DeleteBond": (act.DeleteBond(BOND, WHY), set()),
    "MarkBond": (act.MarkBond(BOND, WHY, mac="m"), {"mac"}),
    "HoldOffStack": (
        act.WriteStackFile(BOND, WHY, path="/f", content="c", until_takeover=True),
        {"path", "content"},
    ),
    "WriteStackFile": (act.WriteStackFile(BOND, WHY, path="/f", content="c"), {"path", "content"}),
    "LetGo": (act.DetachFromStack(BOND, WHY, port=NIC), {"port"}),
    "ReloadStack": (act.ReloadStack(BOND, WHY), set()),
    "OpenWindow": (act.SetAllPortsActive(BOND, WHY, on=True), set()),
    "CloseWindow": (act.SetAllPortsActive(BOND, WHY, on=False), set()),
    "QuietPort": (act.SetIpv6AddrGen(BOND, WHY, port=NIC, on=False), {"port"}),
    "FreePort": (act.SetIpv6AddrGen(BOND, WHY, port=NIC, on=True), {"port"}),
    "FreeBond": (act.SetIpv6AddrGen(BOND, WHY, on=True), set()),
    "PortDown": (act.SetUp(BOND, WHY, port=NIC, up=False), {"port"}),
    "PortUp": (act.SetUp(BOND, WHY, port=NIC, up=True, accept_ra=False), {"port", "deaf"}),
    "BondUp": (act.SetUp(BOND, WHY, up=True), set()),
    "AddPort": (act.AddPort(BOND, WHY, port=NIC), {"port"}),
    "ReleasePort": (act.RemovePort(BOND, WHY, port=NIC), {"port"}),
    "SetPrimary": (act.SetPrimary(BOND, WHY, port=NIC), {"port"}),
    "MoveNetwork": (
        act.MoveAddressing(BOND, WHY, port=NIC, to_bond=True, addressing=MOVED),
        MOVE_KEYS,
    ),
    "GiveBack": (
        act.MoveAddressing(BOND, WHY, port=NIC, to_bond=False, addressing=MOVED),
        MOVE_KEYS,
    ),
    "RemoveStackFiles": (act.RemoveStackFiles(BOND, WHY), set()),
    "RememberPair": (act.RememberPair(BOND, WHY, mac="m"), {"mac"}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_action_keeps_its_published_name_and_keys(name: str) -> None:
    action, keys = PUBLISHED[name]
    assert published_name(action) == name
    (form,) = json.loads(json.dumps(Plan(actions=(action,)).as_json()))["actions"]
    assert form.keys() == {"action", "does", "bond", "reason"} | keys
    assert (form["action"], form["bond"], form["reason"]) == (name, BOND, WHY)
    assert form["does"] == str(action)


def test_every_action_has_a_published_name() -> None:
    assert {type(action) for action, _ in PUBLISHED.values()} == {
        kind
        for kind in vars(act).values()
        if isinstance(kind, type) and issubclass(kind, act.Action) and kind is not act.Action
    }


def test_inverted_and_renamed_values_keep_their_meaning() -> None:
    created, up, moved = (PUBLISHED[name][0] for name in ("CreateBond", "PortUp", "MoveNetwork"))
    forms = Plan(actions=(created, up, moved)).as_json()["actions"]
    assert isinstance(forms, list)
    assert (forms[0]["quiet"], forms[1]["deaf"], forms[2]["loosen"]) == (True, True, True)
    assert forms[2]["routes"][0]["behind"] is True
