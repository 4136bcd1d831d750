"""The number by which a DHCP server tells the interfaces of one client apart (IAID).

networkd and NetworkManager derive it from the name of the interface, so a bond
would ask as another client than its NIC did, and get another address. Both
hash the name with SipHash-2-4 and one fixed key (systemd: src/libsystemd-network/
dhcp-identifier.c, dhcp_identifier_set_iaid (252); NetworkManager:
src/core/nm-core-utils.c, nm_utils_create_dhcp_iaid (1.52)); the result is given
to the bond in words.
"""

from __future__ import annotations

from collections.abc import Mapping

_KEY = bytes.fromhex("80118cc2fe4a03ee3ed60c6f36391409")
_MASK = (1 << 64) - 1
_PERSISTENT_NAMES = (
    "ID_NET_NAME_ONBOARD",
    "ID_NET_NAME_SLOT",
    "ID_NET_NAME_PATH",
    "ID_NET_NAME_MAC",
)
"""systemd: src/shared/netif-util.c, net_get_persistent_name (257)."""


def iaid(name: bytes) -> int:
    """Return the IAID of an interface with this name (or of a MAC, where there is no name).

    It is the number that ``IAID=`` and ``dhcp-iaid=`` take.
    """
    digest = siphash24(_KEY, name)
    return (digest & 0xFFFFFFFF) ^ (digest >> 32)


def iaid_of_nic(mac: str, properties: Mapping[str, str]) -> int:
    """Return the IAID that networkd gives a NIC with these udev properties."""
    name = next((properties[key] for key in _PERSISTENT_NAMES if key in properties), None)
    return iaid(bytes.fromhex(mac.replace(":", "")) if name is None else name.encode())


def siphash24(key: bytes, data: bytes) -> int:
    """Return SipHash-2-4 of ``data`` (Aumasson, Bernstein 2012); ``key`` has 16 bytes."""
    first, second = (int.from_bytes(key[at : at + 8], "little") for at in (0, 8))
    state = (
        first ^ 0x736F6D6570736575,
        second ^ 0x646F72616E646F6D,
        first ^ 0x6C7967656E657261,
        second ^ 0x7465646279746573,
    )
    padded = data + bytes(7 - len(data) % 8) + bytes([len(data) & 0xFF])
    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at : at + 8], "little")
        v0, v1, v2, v3 = state
        v0, v1, v2, v3 = _round(_round((v0, v1, v2, v3 ^ word)))
        state = (v0 ^ word, v1, v2, v3)
    v0, v1, v2, v3 = state
    state = (v0, v1, v2 ^ 0xFF, v3)
    for _ in range(4):
        state = _round(state)
    v0, v1, v2, v3 = state
    return v0 ^ v1 ^ v2 ^ v3


def _round(state: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    v0, v1, v2, v3 = state
    v0 = (v0 + v1) & _MASK
    v1 = _rotate(v1, 13) ^ v0
    v0 = _rotate(v0, 32)
    v2 = (v2 + v3) & _MASK
    v3 = _rotate(v3, 16) ^ v2
    v0 = (v0 + v3) & _MASK
    v3 = _rotate(v3, 21) ^ v0
    v2 = (v2 + v1) & _MASK
    v1 = _rotate(v1, 17) ^ v2
    v2 = _rotate(v2, 32)
    return v0, v1, v2, v3


def _rotate(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (64 - bits))) & _MASK
