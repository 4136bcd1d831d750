"""What this room asks of the kernel's links: the narrow border that a fake can stand behind.

Every call is synchronous and made from one thread. A refused request raises
LinkError with the errno; nothing else crosses the border.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from guestagent.errors import SystemLacksError
from guestagent.host.sriov.core.model import PortProfile, VfState
from guestagent.host.sriov.core.values import Value


class LinkError(SystemLacksError):
    """The kernel refused a request. ``code`` is the errno."""

    def __init__(self, what: str, code: int) -> None:
        reason = f"{os.strerror(code)} ({errno.errorcode.get(code, code)})"
        denied = code in {errno.EPERM, errno.EACCES}
        super().__init__(f"{what}: {reason}", hint="run it as root" if denied else None)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLink:
    """An interface of this host; ``lower`` and ``upper`` are ifindexes, ``kind`` rtnetlink's."""

    ifindex: int
    name: str
    names: tuple[str, ...] = ()
    mac: str | None = None
    mtu: int = 1500
    up: bool = False
    carrier: bool = False
    kind: str | None = None
    lower: int | None = None
    upper: int | None = None
    alias: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FdbEntry:
    """Where frames to a MAC go. ``own`` entries are the device's filter, others the bridge's."""

    ifindex: int
    mac: str
    own: bool


class PortResponse(IntEnum):
    """What a switch says of a port profile (K: include/uapi/linux/if_link.h, PORT_PROFILE_*)."""

    SUCCESS = 256
    IN_PROGRESS = 257
    INVALID = 258
    BAD_STATE = 259
    INSUFFICIENT_RESOURCES = 260
    ERROR = 261


class Links(Protocol):
    """The links of this host's network namespace."""

    def links(self) -> tuple[HostLink, ...]:
        """Return every interface."""

    def vf_states(self, pf: int) -> Mapping[int, VfState]:
        """Return what a PF says of its VFs, by their index."""

    def write(self, pf: int, index: int, value: Value) -> None:
        """Write one value of a VF."""

    def associate(self, pf: int, index: int, profile: PortProfile | None) -> None:
        """Ask for a port profile, or for the end of one; the answer comes later."""

    def association(self, pf: int, index: int) -> int | None:
        """Return what the switch says of the VF's port profile, None where it has none."""

    def set_up(self, ifindex: int, *, up: bool) -> None:
        """Bring an interface up or down."""

    def fdb(self, mac: str) -> tuple[FdbEntry, ...]:
        """Return where frames to this MAC go."""

    def add_to_filter(self, ifindex: int, mac: str) -> None:
        """Have a device take frames to this MAC; one that it takes already is fine."""

    def remove_from_filter(self, ifindex: int, mac: str) -> None:
        """Undo that; what is not there is fine."""

    def point_bridge(self, port: int, mac: str) -> None:
        """Have the bridge above ``port`` send this MAC there, until it learns otherwise."""

    def forget_in_bridge(self, port: int, mac: str) -> None:
        """Have the bridge forget that; what it does not know is fine."""

    def port_vlans(self, port: int) -> frozenset[int]:
        """Return the VLANs that a bridge lets through a port."""

    def create_macvtap(self, lower: int, name: str, mac: str, alias: str) -> None:
        """Create a macvtap in bridge mode, down. EEXIST when the name is taken."""

    def delete_link(self, ifindex: int) -> None:
        """Delete a virtual link; one that is gone is fine."""
