"""Properties of plans for every guest: they converge, from any prefix, and change only pairs."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from guestagent.guest.core.addressing import Address
from guestagent.guest.core.link import Link
from guestagent.guest.core.planner import plan
from guestagent.guest.core.policy import Policy
from tests.fakes.system import FakeSystem

MACS = [f"52:54:00:00:00:{number:02x}" for number in range(1, 4)]


@dataclass(frozen=True)
class Nic:
    mac: str
    driver: str
    carrier: bool
    up: bool
    addressed: bool


nics = st.lists(
    st.builds(
        Nic,
        mac=st.sampled_from(MACS),
        driver=st.sampled_from(["virtio_net", "e1000e", "igbvf"]),
        carrier=st.booleans(),
        up=st.booleans(),
        addressed=st.booleans(),
    ),
    max_size=6,
)


def guest(description: list[Nic]) -> FakeSystem:
    system = FakeSystem()
    for number, nic in enumerate(description):
        ifindex = system.kernel.plug(
            f"ens{number}", nic.mac, driver=nic.driver, carrier=nic.carrier, up=nic.up
        )
        if nic.addressed:
            address = Address(family=socket.AF_INET, address=f"192.0.2.{number}", prefix_length=24)
            system.kernel.owned[ifindex] = [address]
    return system


def end_state(system: FakeSystem) -> list[tuple[object, ...]]:
    """Everything but the numbers of links, which depend on the way."""
    names = {link.ifindex: link.name for link in system.kernel.links()}

    def seen(link: Link) -> tuple[object, ...]:
        bond = link.bond
        active = names.get(bond.active) if bond and bond.active else None
        primary = names.get(bond.primary) if bond and bond.primary else None
        upper = names[link.upper] if link.upper else None
        addresses = system.kernel.addresses(link.ifindex)
        return (link.name, link.address, link.up, link.alias, upper, active, primary, addresses)

    return sorted((seen(link) for link in system.kernel.links()), key=str)


def settle(system: FakeSystem) -> None:
    for _ in range(3):
        outcome = system.engine().converge()
        assert outcome.error is None
        system.later(60)
    assert system.engine().look().plan.actions == ()


@settings(deadline=None)
@given(nics)
def test_the_plan_of_a_converged_guest_is_empty(description: list[Nic]) -> None:
    settle(guest(description))


@settings(max_examples=200, deadline=None)
@given(nics, st.integers(min_value=0, max_value=30), st.integers(min_value=0, max_value=30))
def test_any_prefix_of_a_plan_leads_to_the_same_end(
    description: list[Nic], first: int, second: int
) -> None:
    straight, interrupted = guest(description), guest(description)
    settle(straight)
    for cut in (first, second):
        engine = interrupted.engine()
        begun = engine.look().plan
        assert engine._applier.apply(begun.actions[:cut]) == {}
    settle(interrupted)
    assert end_state(interrupted) == end_state(straight)


@settings(deadline=None)
@given(nics)
def test_a_nic_that_is_no_part_of_a_pair_is_never_changed(description: list[Nic]) -> None:
    system = guest(description)
    before = system.kernel.links()
    settle(system)
    for link in before:
        group = [nic for nic in description if nic.mac == link.address]
        drivers = sorted(nic.driver == "virtio_net" for nic in group)
        if drivers != [False, True]:
            assert system.kernel.named(link.name) == link


@settings(deadline=None)
@given(nics)
def test_planning_is_pure(description: list[Nic]) -> None:
    system = guest(description)
    snapshot = system.engine().look().snapshot
    assert plan(snapshot, Policy()) == plan(snapshot, Policy())
    assert system.kernel.links() == guest(description).kernel.links()
