"""All network stacks of a system as one: each NIC is configured by the stacks that own it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from guestagent.errors import GuestAgentError, InternalError
from guestagent.guest.core.link import Autoconfiguration
from guestagent.guest.core.snapshot import StackFile
from guestagent.guest.stacks.base import NetworkStack, Nic, Strength


class Stacks:
    """The stacks of one system, in order of precedence among answers of equal strength."""

    def __init__(self, stacks: Sequence[NetworkStack]) -> None:
        self._stacks = stacks

    def conflict(self, nic: Nic) -> str | None:
        """Return the reason why a NIC must not become a port of a bond, or None.

        The configuration makes something of the NIC that a port cannot be, or it leaves open
        whether a file applies. Such a doubt is settled by an earlier stack that is configured.
        """
        for stack in self._stacks:
            reason = stack.conflict(nic)
            if reason is not None:
                return f"{reason}, which would lose the NIC to a bond"
        for stack in self._stacks:
            ownership = stack.ownership(nic)
            if ownership.doubt is not None or ownership.strength >= Strength.CONFIGURED:
                return ownership.doubt
        return None

    def autoconfiguration(self, nic: Nic) -> Autoconfiguration:
        """Return the maker of the IPv6 addresses of a pair.

        The bond is up before the stacks start at boot, and the addresses that the kernel has made
        by then disturb them. NetworkManager and dhcpcd leave them beside their own. networkd drops
        them, and with them the route to a router that it hears at that moment (252).
        """
        for stack, owned in self._ownerships(nic):
            if owned:
                return stack.autoconfiguration(nic)
        return Autoconfiguration.KERNEL

    def files(self, nic: Nic) -> tuple[StackFile, ...]:
        """Return the files that must be on disk for a pair."""
        files = (stack.files(nic, owned=owned) for stack, owned in self._ownerships(nic))
        return tuple(chain.from_iterable(files))

    def files_for_return(self, nic: Nic) -> tuple[StackFile, ...]:
        """Return the files that must be on disk when a NIC gets its addresses back."""
        files = (
            stack.files_for_return(nic, owned=owned) for stack, owned in self._ownerships(nic)
        )
        return tuple(chain.from_iterable(files))

    def write(self, path: str, content: str) -> None:
        """Put a file in place. Raises OSError."""
        self._writer(path).write(path, content)

    def hold_off(self, bond: str, path: str, content: str) -> None:
        """Keep a stack off a bond that is about to be made. Raises PeerError, OSError."""
        stack = self._writer(path)
        stack.write(path, content)
        stack.reload(bond)

    def detach(self, bond: str, device: str) -> None:
        """Make the stacks leave a NIC or a bond alone, with its addresses."""
        self._each(lambda stack: stack.detach(bond, device))

    def reload(self, bond: str) -> None:
        """Make the stacks act on the files of a bond as they are now."""
        self._each(lambda stack: stack.reload(bond))

    def give_back(self, bond: str) -> None:
        """Remove the files of a bond and have its NIC configured again."""
        self._each(lambda stack: stack.give_back(bond))

    def _ownerships(self, nic: Nic) -> Iterator[tuple[NetworkStack, bool]]:
        """Yield each stack, and whether it owns the NIC: its answer is the strongest."""
        strengths = [stack.ownership(nic).strength for stack in self._stacks]
        strongest = max(strengths, default=Strength.NO)
        for stack, strength in zip(self._stacks, strengths, strict=True):
            yield stack, strength == strongest != Strength.NO

    def _writer(self, path: str) -> NetworkStack:
        for stack in self._stacks:
            if Path(path).parent in stack.directories:
                return stack
        raise InternalError(f"{path} is in no directory of a network stack")

    def _each(self, request: Callable[[NetworkStack], None]) -> None:
        """Make a request to every stack, then raise the first failure: PeerError, OSError.

        A stack that fails keeps no other from its part; a request may be repeated.
        """
        failures: list[GuestAgentError | OSError] = []
        for stack in self._stacks:
            try:
                request(stack)
            except (GuestAgentError, OSError) as error:
                failures.append(error)
        if failures:
            raise failures[0]
