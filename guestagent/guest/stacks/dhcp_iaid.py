"""Identity association identifier (IAID) of a DHCP client: tells apart its interfaces.

networkd and NetworkManager derive it from the name of the interface, so that a bond would be
another client than its NIC and get another address. The bond is therefore configured with the
IAID of the NIC. Both programs hash the name with SipHash-2-4 and one fixed key (systemd:
src/libsystemd-network/dhcp-identifier.c, dhcp_identifier_set_iaid (252); NetworkManager:
src/core/nm-core-utils.c, nm_utils_create_dhcp_iaid (1.52)).
"""

from __future__ import annotations

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
