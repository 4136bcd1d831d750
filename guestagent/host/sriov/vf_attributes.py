"""Attributes of VFs that pyroute2 does not encode or decode correctly.

802.1Qbh port profiles (IFLA_VF_PORTS) are opaque bytes to it. In an 802.1ad tag it leaves out the
padding of struct ifla_vf_vlan_info, and the kernel refuses a shorter attribute.
K: include/uapi/linux/if_link.h, IFLA_VF_VLAN_LIST, IFLA_PORT_*; net/core/rtnetlink.c,
do_setvfinfo (6.5), rtnl_vf_ports_fill. Numbers are in the order of the machine, but for the
protocol of a tag.
"""

from __future__ import annotations

import struct

from guestagent.host.sriov.core.model import PortProfile
from guestagent.netlink import uapi
from guestagent.netlink.codec import (
    Attributes,
    iter_attributes,
    number,
    pack,
    string,
    u8,
    u32,
    unpack,
)

_ETH_P_8021AD = 0x88A8
_VLAN_INFO = struct.Struct("=III2s2x")


def service_tag(index: int, vlan: int, qos: int) -> Attributes:
    """Set an 802.1ad tag around a VF's frames."""
    info = _VLAN_INFO.pack(index, vlan, qos, _ETH_P_8021AD.to_bytes(2, "big"))
    tags = pack({uapi.IFLA_VF_VLAN_INFO: info})
    settings = pack({uapi.IFLA_VF_VLAN_LIST: tags})
    return {uapi.IFLA_VFINFO_LIST: pack({uapi.IFLA_VF_INFO: settings})}


def encode_port_profile(index: int, profile: PortProfile | None) -> Attributes:
    """Associate a VF with a port profile, or with None disassociate it."""
    port = {uapi.IFLA_PORT_VF: u32(index)}
    if profile is not None:
        port[uapi.IFLA_PORT_PROFILE] = string(profile.name)
        for kind, uuid in (
            (uapi.IFLA_PORT_INSTANCE_UUID, profile.instance),
            (uapi.IFLA_PORT_HOST_UUID, profile.host),
        ):
            if uuid is not None:
                port[kind] = bytes.fromhex(uuid.replace("-", ""))
    associate = uapi.PORT_REQUEST_ASSOCIATE if profile else uapi.PORT_REQUEST_DISASSOCIATE
    port[uapi.IFLA_PORT_REQUEST] = u8(associate)
    return {uapi.IFLA_VF_PORTS: pack({uapi.IFLA_VF_PORT | uapi.NLA_F_NESTED: pack(port)})}


def decode_port_response(link: Attributes, index: int) -> int | None:
    """Return the response in a VF's entry of IFLA_VF_PORTS, None without one."""
    for kind, port in iter_attributes(link.get(uapi.IFLA_VF_PORTS, b"")):
        found = unpack(port)
        if kind == uapi.IFLA_VF_PORT and number(found, uapi.IFLA_PORT_VF) == index:
            return number(found, uapi.IFLA_PORT_RESPONSE)
    return None
