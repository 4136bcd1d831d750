"""What the IPv6 addresses of a NIC end in, where that depends on its name (RFC 7217).

A bond has another name and would make others. It is given the interface
identifier that the NIC had, as a token; this is remembered, for boots at which
the bond is there first.
"""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

from guestagent.guest.core.model import Link, StackFile
from guestagent.guest.stacks.tool import on_disk

_IFA_F_TEMPORARY = 0x01
_IDENTIFIER_BYTES = 8


class Tokens:
    """The remembered ones: a file for each MAC in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def of(self, mac: str, nic: Link) -> str | None:
        """Return that of the NIC's advertised address, or the remembered one: ``::1:2:3:4``."""
        for address in nic.addresses:
            advertised = address.valid_s is not None and address.prefix_length == 64
            lasting = not address.flags & _IFA_F_TEMPORARY
            if address.family == socket.AF_INET6 and address.scope == 0 and advertised and lasting:
                packed = ipaddress.IPv6Address(address.address).packed
                identifier = packed[-_IDENTIFIER_BYTES:]
                return str(ipaddress.IPv6Address(bytes(_IDENTIFIER_BYTES) + identifier))
        try:
            return self._path(mac).read_text().strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    def file(self, mac: str, token: str) -> StackFile:
        """Return what must be on disk for it to be remembered."""
        return on_disk(self._path(mac), f"{token}\n")

    def owns(self, path: Path) -> bool:
        """Whether a file is one of these."""
        return path.parent == self._directory

    def _path(self, mac: str) -> Path:
        return self._directory / f"{mac.replace(':', '')}.token"
