"""802.1Qbh port profiles as rtnetlink carries them.

pyroute2 hands IFLA_VF_PORTS over as raw bytes, so they are read and written here
(K: include/uapi/linux/if_link.h, IFLA_PORT_*; net/core/rtnetlink.c,
rtnl_vf_ports_fill). Numbers are in the order of the machine.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator

from guestagent.host.sriov.core.model import PortProfile

IFLA_VF_PORT = 1
IFLA_PORT_VF, IFLA_PORT_PROFILE = 1, 2
IFLA_PORT_INSTANCE_UUID, IFLA_PORT_HOST_UUID = 4, 5
IFLA_PORT_REQUEST, IFLA_PORT_RESPONSE = 6, 7
PORT_REQUEST_ASSOCIATE, PORT_REQUEST_DISASSOCIATE = 2, 3
_NESTED = 0x8000
_TYPE = 0x3FFF
_HEADER = struct.Struct("=HH")


def encode_request(index: int, profile: PortProfile | None) -> bytes:
    """Return the content of IFLA_VF_PORTS: associate a VF, or with None disassociate it."""
    request = PORT_REQUEST_DISASSOCIATE if profile is None else PORT_REQUEST_ASSOCIATE
    port = _attribute(IFLA_PORT_VF, struct.pack("=I", index))
    if profile is not None:
        port += _attribute(IFLA_PORT_PROFILE, profile.name.encode() + b"\0")
        for kind, text in (
            (IFLA_PORT_INSTANCE_UUID, profile.instance),
            (IFLA_PORT_HOST_UUID, profile.host),
        ):
            if text is not None:
                port += _attribute(kind, bytes.fromhex(text.replace("-", "")))
    port += _attribute(IFLA_PORT_REQUEST, struct.pack("=B", request))
    return _attribute(IFLA_VF_PORT | _NESTED, port)


def decode_response(ports: bytes, index: int) -> int | None:
    """Return the response that a VF's entry carries, None where there is none."""
    for kind, port in _attributes(ports):
        if kind != IFLA_VF_PORT:
            continue
        fields = dict(_attributes(port))
        if _number(fields.get(IFLA_PORT_VF)) == index:
            return _number(fields.get(IFLA_PORT_RESPONSE))
    return None


def _attribute(kind: int, content: bytes) -> bytes:
    length = _HEADER.size + len(content)
    return _HEADER.pack(length, kind) + content + bytes(-length % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _HEADER.size:
        length, kind = _HEADER.unpack_from(data)
        if not _HEADER.size <= length <= len(data):
            return
        yield kind & _TYPE, data[_HEADER.size : length]
        data = data[length + (-length % 4) :]


def _number(content: bytes | None) -> int | None:
    return None if content is None else int.from_bytes(content, sys.byteorder)
