"""The .network files of the agent, derived from the user's file of the NIC. Pure.

The bond's file differs from the NIC's in its [Match] section and in four settings:

- A stable-privacy address depends on the name of the interface. Its interface identifier becomes
  a fixed token.
- The IAID, which networkd derives from that name too, is added. Without it the bond would be
  another client to a DHCP server.
- The DHCP client on the bond releases no lease when networkd stops it: the address is then on the
  NIC again, and in use.
- ``KeepConfiguration=yes``, for a bond that takes over a NIC in use. networkd drops the addresses
  of an interface that it begins to configure and requests them anew, which would leave the guest
  without its address until the servers have answered.
"""

from __future__ import annotations

from collections.abc import Mapping

from guestagent.guest.stacks.base import Nic
from guestagent.guest.stacks.dhcp_iaid import iaid
from guestagent.guest.stacks.ini import value_of
from guestagent.guest.stacks.networkd.network_file import NetworkFile, is_stable_privacy

_PERSISTENT_NAMES = (
    "ID_NET_NAME_ONBOARD",
    "ID_NET_NAME_SLOT",
    "ID_NET_NAME_PATH",
    "ID_NET_NAME_MAC",
)
"""systemd: src/shared/netif-util.c, net_get_persistent_name (257)."""


def ports_unmanaged(nic: Nic) -> str:
    """Return the file that keeps networkd off every physical NIC of the pair."""
    match = f"[Match]\nPermanentMACAddress={nic.mac}\nKind=!bond\n"
    return f"{_header(f'the ports of {nic.bond}')}{match}\n[Link]\nUnmanaged=yes\n"


def bond_unmanaged(bond: str) -> str:
    """Return the file that keeps networkd off a bond."""
    return f"{_header(bond)}{_match_of_bond(bond)}\n[Link]\nUnmanaged=yes\n"


def for_bond(source: NetworkFile, nic: Nic, interface_id: str | None) -> str:
    """Return the file that configures the bond as ``source`` configures the NIC.

    ``interface_id`` replaces the stable-privacy addresses.
    """
    content = _copy(source, nic.bond, _match_of_bond(nic.bond), interface_id)
    return content + _dhcp_client_of(source, nic)


def for_nic(source: NetworkFile, nic: Nic) -> str:
    """Return the file by which a NIC keeps the addresses that its bond hands back."""
    match = (
        f"[Match]\nPermanentMACAddress={nic.link.permanent_address}\nDriver={nic.link.driver}\n"
    )
    return _copy(source, nic.link.name, match) + keep_addresses(source)


def keep_addresses(source: NetworkFile) -> str:
    """Return the setting that makes networkd keep addresses that it finds; empty if needless."""
    chosen = value_of(source.sections, "Network", "KeepConfiguration")
    return "" if chosen or not source.dynamic else "\n[Network]\nKeepConfiguration=yes\n"


def iaid_of_nic(mac: str, properties: Mapping[str, str]) -> int:
    """Return the IAID that networkd gives a NIC with these udev properties."""
    name = next((properties[key] for key in _PERSISTENT_NAMES if key in properties), None)
    return iaid(bytes.fromhex(mac.replace(":", "")) if name is None else name.encode())


def _header(subject: str) -> str:
    return f"# Written by guestagent for {subject}; it goes with a reboot.\n"


def _match_of_bond(bond: str) -> str:
    return f"[Match]\nName={bond}\nKind=bond\n"


def _copy(source: NetworkFile, link: str, match: str, interface_id: str | None = None) -> str:
    """Return the file for another link, with a token in place of stable-privacy addresses."""
    lines = [_header(f"{link}, from {source.path}"), match]
    for name, pairs in source.sections:
        if name != "Match":
            lines.append(f"\n[{name}]\n")
            lines.extend(
                f"{key}=static:{interface_id}\n"
                if interface_id is not None and is_stable_privacy(name, key, value)
                else f"{key}={value}\n"
                for key, value in pairs
            )
    return "".join(lines)


def _dhcp_client_of(source: NetworkFile, nic: Nic) -> str:
    """Return the settings by which the bond is the DHCP client that the NIC was and will be."""
    if not source.dynamic:
        return ""
    unreleased = "\n[DHCPv4]\nSendRelease=no\n\n[DHCPv6]\nSendRelease=no\n"
    chosen = any(
        value_of(source.sections, section, "IAID") for section in ("DHCPv4", "DHCP", "DHCPv6")
    )
    if chosen:
        return unreleased
    number = iaid_of_nic(nic.mac, nic.properties())
    return f"{unreleased}\n[DHCPv4]\nIAID={number}\n\n[DHCPv6]\nIAID={number}\n"
