"""Interface identifiers of IPv6 addresses that depend on the name of the NIC (RFC 7217).

The bond has another name and would form other addresses. It is therefore given the identifier
that the NIC had, as a token. A file keeps the identifier for boots at which the bond comes first.
"""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

from guestagent.guest.core.link import Link
from guestagent.guest.core.snapshot import StackFile
from guestagent.guest.stacks.files import read_or_none, stack_file

_IFA_F_TEMPORARY = 0x01
_IDENTIFIER_BYTES = 8


class InterfaceIds:
    """Known interface identifiers: one file for each MAC address in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def of(self, mac: str, nic: Link) -> str | None:
        """Return the identifier of the NIC's advertised address, else the known one: ``::1:2``."""
        for address in nic.addresses or ():
            advertised = address.valid_s is not None and address.prefix_length == 64
            lasting = not address.flags & _IFA_F_TEMPORARY
            if address.family == socket.AF_INET6 and address.scope == 0 and advertised and lasting:
                packed = ipaddress.IPv6Address(address.address).packed
                identifier = packed[-_IDENTIFIER_BYTES:]
                return str(ipaddress.IPv6Address(bytes(_IDENTIFIER_BYTES) + identifier))
        return (read_or_none(self._path(mac)) or "").strip() or None

    def files(self, mac: str, identifier: str | None) -> tuple[StackFile, ...]:
        """Return the file that keeps the identifier of a MAC address, if there is one."""
        return () if identifier is None else (stack_file(self._path(mac), f"{identifier}\n"),)

    def _path(self, mac: str) -> Path:
        return self.directory / f"{mac.replace(':', '')}.token"
