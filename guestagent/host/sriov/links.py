"""The interface to the kernel's links on a host, which a fake implements too.

Every call is synchronous and made from one thread. A refused request raises LinkError with the
errno, and no other exception.
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
    """Forwarding entry of a MAC: in the device's own filter (``own``) or in its bridge."""

    ifindex: int
    mac: str
    own: bool


class PortResponse(IntEnum):
    """A switch's response to a port profile (K: include/uapi/linux/if_link.h, PORT_PROFILE_*)."""

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
        """Return the values of a PF's VFs, by their index."""

    def write_vf(self, pf: int, index: int, value: Value) -> None:
        """Write one value of a VF."""

    def request_port_profile(self, pf: int, index: int, profile: PortProfile | None) -> None:
        """Associate a VF with a port profile, or disassociate it; the response comes later."""

    def port_profile_response(self, pf: int, index: int) -> int | None:
        """Return the switch's response to the VF's port profile, None without a profile."""

    def set_up(self, ifindex: int, *, up: bool) -> None:
        """Bring an interface up or down."""

    def forwarding_entries(self, mac: str) -> tuple[FdbEntry, ...]:
        """Return the forwarding entries of a MAC."""

    def add_filter_entry(self, ifindex: int, mac: str) -> None:
        """Add a MAC to a device's filter unless it is there already."""

    def remove_filter_entry(self, ifindex: int, mac: str) -> None:
        """Remove a MAC from a device's filter if it is there."""

    def add_bridge_entry(self, port: int, mac: str) -> None:
        """Have the bridge above ``port`` forward a MAC to it, until it learns another port."""

    def remove_bridge_entry(self, port: int, mac: str) -> None:
        """Remove the entry of a MAC from the bridge above ``port`` if it exists."""

    def port_vlans(self, port: int) -> frozenset[int]:
        """Return the VLANs that a bridge permits on a port."""

    def create_macvtap(self, lower: int, name: str, mac: str, alias: str) -> None:
        """Create a macvtap in bridge mode, down. EEXIST if the name is taken."""

    def delete_link(self, ifindex: int) -> None:
        """Delete a virtual link if it exists."""
