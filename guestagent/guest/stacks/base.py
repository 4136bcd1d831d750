"""The interface of a network stack: the program that configures the addresses of a NIC.

``Stacks`` (select.py) asks every stack in the same way and knows none by name. A stack derives
its answers from files and from the running system alone: nothing is remembered between two
calls. All stacks keep the claims of ``tests/contract/network_stack.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Protocol

from guestagent.guest.core.link import Autoconfiguration, Link
from guestagent.guest.core.snapshot import StackFile
from guestagent.guest.stacks.files import make_directory
from guestagent.guest.state.atomic_file import write_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """A standby NIC together with the bond that takes, or has taken, its place."""

    bond: str
    link: Link
    properties: Callable[[], Mapping[str, str]] = dict
    """udev properties of the NIC, read on demand."""
    vf_name: str | None = None
    """Name of the pair's VF, to which a rename rule by MAC address may have gone instead."""

    @property
    def mac(self) -> str:
        """Permanent MAC address, which is the key of the pair."""
        return self.link.permanent_address or self.link.address


class Strength(IntEnum):
    """How firmly a stack owns the address configuration of a NIC."""

    NO = 0
    DEFAULT = 1
    """It takes every NIC for which no other stack is configured."""
    CONFIGURED = 2
    """Its files on disk configure the NIC."""
    CONFIRMED = 3
    """The running service states that it manages the NIC, or has taken over the bond."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """Answer of one stack to the question of who configures a NIC."""

    strength: Strength
    doubt: str | None = None
    """Reason why the files leave open whether, or how, the stack configures the NIC."""


class NetworkStack(Protocol):
    """A network stack of the guest. ``directories`` and ``ownership`` have no default.

    ``owned`` is True for the stacks that give the strongest answer. Two stacks that are
    configured for one NIC both act on their files, so both own it; the first of them in the
    registry decides who makes the IPv6 addresses.
    """

    directories: tuple[Path, ...]
    """Directories into which ``files`` go. No other stack writes there."""
    file_mode: int = 0o644

    def ownership(self, nic: Nic) -> Ownership:
        """Tell whether the stack configures the NIC: yes, no, or unclear with the reason."""

    def conflict(self, nic: Nic) -> str | None:
        """Return the reason why the NIC cannot be a port of a bond: ``is a port of br0 in FILE``.

        A stack that makes nothing but addresses of a NIC returns None.
        """
        return None

    def autoconfiguration(self, nic: Nic) -> Autoconfiguration:
        """Return the maker of the IPv6 addresses of a NIC that the stack owns."""
        return Autoconfiguration.KERNEL

    def files(self, nic: Nic, *, owned: bool) -> tuple[StackFile, ...]:
        """Return the files that must be on disk for a bond.

        They keep the stack off the ports, and make it configure the bond as it configured the NIC.
        """
        return ()

    def files_for_return(self, nic: Nic, *, owned: bool) -> tuple[StackFile, ...]:
        """Return the files that must be on disk when the NIC gets its addresses back."""
        return ()

    def write(self, path: str, content: str) -> None:
        """Put one of the stack's files in place. Raises OSError."""
        make_directory(Path(path).parent)
        write_whole(Path(path), content, mode=self.file_mode)

    def detach(self, bond: str, device: str) -> None:
        """Make the stack leave a NIC or a bond alone, with its addresses. Raises PeerError."""
        return

    def reload(self, bond: str) -> None:
        """Make the stack act on the files of a bond as they are now. Raises PeerError, OSError.

        It configures the bond from then on. Addresses on the bond stay. Without files of the
        bond nothing changes on the bond.
        """
        return

    def give_back(self, bond: str) -> None:
        """Remove the files of a bond and have its NIC configured again. Raises PeerError, OSError.

        May be repeated: a repetition completes a request that failed.
        """
        return
