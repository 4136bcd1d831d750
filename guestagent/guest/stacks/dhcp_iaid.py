"""Identity association identifier (IAID) of a DHCP client: tells apart its interfaces.

networkd and NetworkManager derive it from the name of the interface, so that a bond would be
another client than its NIC and get another address. The bond is therefore configured with the
IAID of the NIC. Both programs hash the name with SipHash-2-4 and one fixed key (systemd:
src/libsystemd-network/dhcp-identifier.c, dhcp_identifier_set_iaid (252); NetworkManager:
src/core/nm-core-utils.c, nm_utils_create_dhcp_iaid (1.52)).
"""

from __future__ import annotations

import struct

_KEY = bytes.fromhex("80118cc2fe4a03ee3ed60c6f36391409")
_MASK = (1 << 64) - 1


def iaid(name: bytes) -> int:
    """Return the IAID of an interface from its name, or from its MAC address if it has no name.

    ``IAID=`` and ``dhcp-iaid=`` take this number.
    """
    digest = siphash24(_KEY, name)
    return (digest & 0xFFFFFFFF) ^ (digest >> 32)


def siphash24(key: bytes, data: bytes) -> int:
    """Return SipHash-2-4 of ``data`` (Aumasson, Bernstein 2012); ``key`` has 16 bytes."""
    first, second = struct.unpack("<QQ", key)
    v: list[int] = [
        first ^ 0x736F6D6570736575,
        second ^ 0x646F72616E646F6D,
        first ^ 0x6C7967656E657261,
        second ^ 0x7465646279746573,
    ]
    padded = data + bytes(7 - len(data) % 8) + bytes([len(data) & 0xFF])
    for (word,) in struct.iter_unpack("<Q", padded):
        v[3] ^= word
        _mix(v, rounds=2)
        v[0] ^= word
    v[2] ^= 0xFF
    _mix(v, rounds=4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def _mix(v: list[int], *, rounds: int) -> None:
    for _ in range(rounds):
        for left, right, bits in ((0, 1, 13), (2, 3, 16), (0, 3, 21), (2, 1, 17)):
            v[left] = (v[left] + v[right]) & _MASK
            v[right] = _rotate(v[right], bits) ^ v[left]
            if right == 1:
                v[left] = _rotate(v[left], 32)


def _rotate(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (64 - bits))) & _MASK
