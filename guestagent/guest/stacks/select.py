"""All network stacks of a system behind one: each NIC is a matter of those that own it.

Who owns a NIC is asked in this order: NetworkManager, where it says so itself
of the running system; ifupdown, by its stanza; networkd, by the first file
that matches; NetworkManager again, which takes every NIC that nobody else
does. A NIC whose addresses somebody has put there by hand is owned by nobody,
and there is nothing to write for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from guestagent.guest.core.model import Autoconfiguration, Link, StackFile
from guestagent.guest.stacks.ifupdown.stack import Ifupdown
from guestagent.guest.stacks.networkd.stack import Networkd
from guestagent.guest.stacks.networkmanager.stack import NetworkManager


class Owners:
    """The stacks of one system."""

    def __init__(
        self,
        *,
        networkd: Networkd | None = None,
        networkmanager: NetworkManager | None = None,
        ifupdown: Ifupdown | None = None,
    ) -> None:
        self._networkd = networkd or Networkd()
        self._networkmanager = networkmanager or NetworkManager()
        self._ifupdown = ifupdown or Ifupdown()

    def files(
        self, *, bond: str, mac: str, standby: Link, properties: Callable[[], Mapping[str, str]]
    ) -> tuple[StackFile, ...]:
        """Return what must be on disk for a pair, and whether it is."""
        files = self._networkd.files(bond=bond, mac=mac, standby=standby, properties=properties)
        if self._is_networkmanagers(bond, standby, properties):
            files += self._networkmanager.files(bond=bond, mac=mac, standby=standby)
        return files

    def claim(self, standby: Link, properties: Callable[[], Mapping[str, str]]) -> str | None:
        """Return why a NIC must not become a port of a bond, or None.

        That is what one of them makes of it that a port cannot be, or that its configuration
        may be in a file of which it cannot be told whether it counts.
        """
        made = (
            self._ifupdown.claim(standby.name)
            or self._networkd.claim(standby, properties)
            or self._networkmanager.claim(standby)
        )
        if made is not None or self._ifupdown.configures(standby.name):
            return made and f"{made}, which would lose it to a bond"
        return self._networkd.doubt(standby, properties)

    def autoconfiguration(
        self, *, bond: str, standby: Link, properties: Callable[[], Mapping[str, str]]
    ) -> Autoconfiguration:
        """Return who makes the IPv6 addresses of a pair.

        A bond is up before they start at boot, and what the kernel has made there meanwhile is
        in their way. NetworkManager and dhcpcd leave it beside their own. networkd drops it,
        and with it the route to a router of which it hears at that moment (252).
        """
        if self._is_networkmanagers(bond, standby, properties):
            makes = self._networkmanager.autoconfigures(standby)
        elif self._ifupdown.configures(standby.name):
            makes = self._ifupdown.autoconfigures(standby.name)
        elif self._networkd.configures(standby, properties):
            return Autoconfiguration.ROUTERS
        else:
            makes = False
        return Autoconfiguration.STACK if makes else Autoconfiguration.KERNEL

    def returned(
        self, *, bond: str, nic: Link, properties: Callable[[], Mapping[str, str]]
    ) -> tuple[StackFile, ...]:
        """Return what must be on disk when a NIC gets back what its bond has."""
        if self._is_networkmanagers(bond, nic, properties):
            return ()
        return self._networkd.returned(bond=bond, nic=nic, properties=properties)

    def write(self, path: str, content: str) -> None:
        """Put a file in place. Raises OSError."""
        owner = self._networkd if self._networkd.owns(path) else self._networkmanager
        owner.write(path, content)

    def hold_off(self, path: str, content: str) -> None:
        """Keep a bond that is not there yet from its owner. Raises PeerError, OSError.

        networkd alone configures what it was not told of: by a file that goes by MAC.
        """
        self._networkd.write(path, content)
        self._networkd.reload()

    def let_go(self, bond: str, nic: str) -> None:
        """Have the owner leave a NIC with its addresses on it. Raises PeerError.

        networkd lets go of a NIC that has lost its addresses by itself, and what
        ifupdown has started is handed over afterwards.
        """
        self._networkmanager.let_go(bond, nic)

    def reload(self, bond: str) -> None:
        """Make the owner configure the bond. Raises PeerError, OSError."""
        self._networkd.reload()
        self._networkmanager.reload(bond)
        self._ifupdown.reload(bond)

    def remove(self, bond: str) -> None:
        """Take away the files of a bond and give its NIC back. Raises PeerError, OSError."""
        self._networkd.remove(bond)
        self._networkmanager.remove(bond)
        self._ifupdown.remove(bond)

    def _is_networkmanagers(
        self, bond: str, standby: Link, properties: Callable[[], Mapping[str, str]]
    ) -> bool:
        manager = self._networkmanager
        if not manager.installed:
            return False
        if manager.told(bond):
            return True
        word = manager.manages(standby)
        if word is not None:
            return word
        return not (
            self._ifupdown.configures(standby.name)
            or self._networkd.told(bond)
            or self._networkd.configures(standby, properties)
        )
