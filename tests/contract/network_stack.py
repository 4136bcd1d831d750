"""Claims that hold for every network stack: the real ones, the fake one and the example.

A claim gets a ground: a guest in which the stack is installed and no NIC is configured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from guestagent.guest.core.link import Link
from guestagent.guest.stacks.base import NetworkStack, Nic, Strength


def nic_of(bond: str, number: int) -> Nic:
    """Return the standby of a pair, without addresses."""
    mac = f"52:54:00:00:00:0{number}"
    link = Link(
        ifindex=number,
        name=f"ens{number}",
        address=mac,
        permanent_address=mac,
        driver="virtio_net",
    )
    return Nic(bond=bond, link=link)


NIC = nic_of("bond0", 3)
OTHER = nic_of("bond1", 4)


class Ground(Protocol):
    """A guest with one network stack."""

    commands: list[tuple[str, ...]]
    """Commands that the stack has run."""

    def stack(self) -> NetworkStack:
        """Return a new object for the stack, as after a restart of the agent."""

    def configure(self, nic: Nic) -> None:
        """Have the user configure a NIC by this stack."""

    def occupy(self, nic: Nic) -> str | None:
        """Have the user make a NIC a port of ``br0``; return the file, None if that cannot be."""

    def start(self, nic: Nic) -> bool:
        """Start the stack on a NIC; False if it notices changes of its files itself."""

    def disk(self) -> Mapping[str, str]:
        """Return the content of all files by path."""


Claim = Callable[[Ground], None]
CLAIMS: dict[str, Claim] = {}


def claim(function: Claim) -> Claim:
    """Count a function among the claims."""
    CLAIMS[function.__name__] = function
    return function


def write_files(stack: NetworkStack, nic: Nic) -> set[str]:
    """Put the files for a bond in place, and return their paths."""
    files = stack.files(nic, owned=True)
    for file in files:
        stack.write(file.path, file.content)
    return {file.path for file in files}


@claim
def a_nic_that_is_not_configured_is_owned_at_most_by_default(ground: Ground) -> None:
    ground.configure(OTHER)
    answer = ground.stack().ownership(NIC)
    assert answer.strength <= Strength.DEFAULT
    assert answer.doubt is None


@claim
def a_nic_that_is_configured_is_owned_and_has_no_conflict(ground: Ground) -> None:
    ground.configure(NIC)
    answer = ground.stack().ownership(NIC)
    assert answer.strength >= Strength.CONFIGURED
    assert answer.doubt is None
    assert ground.stack().conflict(NIC) is None


@claim
def a_change_of_the_configuration_is_noticed_by_the_same_object(ground: Ground) -> None:
    stack = ground.stack()
    before = stack.ownership(NIC).strength
    ground.configure(NIC)
    assert stack.ownership(NIC).strength > before


@claim
def a_nic_that_is_a_port_conflicts_and_the_reason_names_the_file(ground: Ground) -> None:
    path = ground.occupy(NIC)
    if path is not None:
        assert ground.stack().conflict(NIC) == f"is a port of br0 in {path}"
    assert ground.stack().conflict(OTHER) is None


@claim
def an_answer_changes_nothing_and_runs_no_command(ground: Ground) -> None:
    ground.configure(NIC)
    before, stack = ground.disk(), ground.stack()
    for owned in (True, False):
        stack.files(NIC, owned=owned)
        stack.files_for_return(NIC, owned=owned)
    stack.autoconfiguration(NIC)
    assert ground.disk() == before
    assert ground.commands == []


@claim
def all_files_are_in_the_directories_of_the_stack(ground: Ground) -> None:
    ground.configure(NIC)
    stack = ground.stack()
    before = ground.disk()
    write_files(stack, NIC)
    for file in stack.files_for_return(NIC, owned=True):
        stack.write(file.path, file.content)
    new = ground.disk().keys() - before.keys()
    directories = {str(path) for path in stack.directories}
    assert {path.rpartition("/")[0] for path in new} <= directories


@claim
def files_are_derived_and_not_remembered(ground: Ground) -> None:
    ground.configure(NIC)
    files = ground.stack().files(NIC, owned=True)
    assert not any(file.in_place for file in files)
    write_files(ground.stack(), NIC)
    again = ground.stack().files(NIC, owned=True)
    assert [(file.path, file.content) for file in again] == [
        (file.path, file.content) for file in files
    ]
    assert all(file.in_place for file in again)
    assert ground.stack().ownership(NIC).strength >= Strength.CONFIGURED


@claim
def a_file_of_another_content_is_not_in_place(ground: Ground) -> None:
    ground.configure(NIC)
    stack = ground.stack()
    for path in write_files(stack, NIC):
        stack.write(path, "another\n")
    assert not any(file.in_place for file in stack.files(NIC, owned=True))


@claim
def giving_back_removes_the_files_of_that_bond_alone(ground: Ground) -> None:
    ground.configure(NIC)
    ground.configure(OTHER)
    stack = ground.stack()
    own, others = write_files(stack, NIC), write_files(stack, OTHER)
    assert own.isdisjoint(others)
    stack.give_back("bond0")
    assert own.isdisjoint(ground.disk())
    assert others <= ground.disk().keys()
    stack.give_back("bond0")
    assert ground.stack().ownership(NIC).strength >= Strength.CONFIGURED, "its NIC has it again"


@claim
def a_bond_without_files_is_no_concern_of_the_stack(ground: Ground) -> None:
    ground.configure(NIC)
    before, stack = ground.disk(), ground.stack()
    stack.detach("bond7", NIC.link.name)
    stack.reload("bond7")
    stack.give_back("bond7")
    assert ground.disk() == before
    assert ground.commands == []


@claim
def a_service_that_runs_is_told_of_its_files(ground: Ground) -> None:
    ground.configure(NIC)
    must_be_told = ground.start(NIC)
    stack = ground.stack()
    write_files(stack, NIC)
    stack.reload("bond0")
    assert bool(ground.commands) is must_be_told


@claim
def a_nic_of_another_stack_gets_no_file_back(ground: Ground) -> None:
    ground.configure(NIC)
    write_files(ground.stack(), NIC)
    assert ground.stack().files_for_return(NIC, owned=False) == ()
