"""IP addresses of links, read completely so that they can be moved to another link unchanged."""

from __future__ import annotations

import errno
import socket
import struct

from guestagent.guest.core.addressing import Address
from guestagent.netlink import codec, uapi
from guestagent.netlink.rtnetlink import RtnetlinkSocket

_KEPT_FLAGS = (
    uapi.IFA_F_HOMEADDRESS
    | uapi.IFA_F_MANAGETEMPADDR
    | uapi.IFA_F_NOPREFIXROUTE
    | uapi.IFA_F_MCAUTOJOIN
)
_UNUSABLE = uapi.IFA_F_DADFAILED | uapi.IFA_F_TENTATIVE
_FOREVER = 0xFFFFFFFF
_IFADDRMSG = struct.Struct("=BBBBI")
_CACHEINFO = struct.Struct("=IIII")
_GONE = {errno.ENODEV, errno.EADDRNOTAVAIL}


def addresses(rtnetlink: RtnetlinkSocket, ifindex: int) -> tuple[Address, ...]:
    """Return the addresses of a link, in the kernel's order."""
    request = _IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    found = rtnetlink.dump("list addresses", uapi.RTM_GETADDR, request, _IFADDRMSG.size)
    return tuple(_decode(m) for m in found if _IFADDRMSG.unpack(m.fixed)[4] == ifindex)


def add_address(rtnetlink: RtnetlinkSocket, ifindex: int, address: Address) -> None:
    """Add an address, or update it if it exists; IPv6 without DAD.

    An update neither ends a DAD that runs nor clears a failed one (K: net/ipv6/addrconf.c,
    inet6_addr_modify (6.12)): such an address is deleted and added again.
    """
    if address.family == socket.AF_INET6:
        present = (a for a in addresses(rtnetlink, ifindex) if a.address == address.address)
        if any(item.flags & _UNUSABLE for item in present):
            delete_address(rtnetlink, ifindex, address)
    flags = address.flags & _KEPT_FLAGS
    if address.family == socket.AF_INET6:
        flags |= uapi.IFA_F_NODAD
    attributes = _identity(address) | {uapi.IFA_FLAGS: codec.u32(flags)}
    if address.broadcast is not None:
        attributes[uapi.IFA_BROADCAST] = socket.inet_pton(address.family, address.broadcast)
    if address.metric:
        attributes[uapi.IFA_RT_PRIORITY] = codec.u32(address.metric)
    if address.protocol:
        attributes[uapi.IFA_PROTO] = codec.u8(address.protocol)
    if address.label is not None:
        attributes[uapi.IFA_LABEL] = codec.string(address.label)
    if address.valid_s is not None or address.preferred_s is not None:
        valid, preferred = (
            _FOREVER if seconds is None else seconds
            for seconds in (address.valid_s, address.preferred_s)
        )
        attributes[uapi.IFA_CACHEINFO] = _CACHEINFO.pack(preferred, valid, 0, 0)
    rtnetlink.send(
        f"add {address.address}/{address.prefix_length} to link {ifindex}",
        uapi.RTM_NEWADDR,
        _header(ifindex, address) + codec.pack(attributes),
        uapi.NLM_F_CREATE | uapi.NLM_F_REPLACE,
    )


def delete_address(rtnetlink: RtnetlinkSocket, ifindex: int, address: Address) -> None:
    """Delete an address if it exists."""
    what = f"delete {address.address}/{address.prefix_length} from link {ifindex}"
    payload = _header(ifindex, address) + codec.pack(_identity(address))
    rtnetlink.send(what, uapi.RTM_DELADDR, payload, ignored=_GONE)


def _header(ifindex: int, address: Address) -> bytes:
    return _IFADDRMSG.pack(address.family, address.prefix_length, 0, address.scope, ifindex)


def _identity(address: Address) -> dict[int, bytes]:
    """Return the attributes that identify an address on its link."""
    own = socket.inet_pton(address.family, address.address)
    if address.family == socket.AF_INET6 and address.peer is None:
        return {uapi.IFA_ADDRESS: own}
    other = own if address.peer is None else socket.inet_pton(address.family, address.peer)
    return {uapi.IFA_LOCAL: own, uapi.IFA_ADDRESS: other}


def _decode(message: codec.NetlinkMessage) -> Address:
    family, prefix_length, flags, scope, _ = _IFADDRMSG.unpack(message.fixed)
    attributes = message.attributes
    local = codec.ip_address(family, attributes, uapi.IFA_LOCAL)
    address = codec.ip_address(family, attributes, uapi.IFA_ADDRESS)
    lifetimes = attributes.get(uapi.IFA_CACHEINFO)
    preferred, valid = (
        _CACHEINFO.unpack(lifetimes)[:2] if lifetimes is not None else (_FOREVER, _FOREVER)
    )
    label = codec.text(attributes, uapi.IFA_LABEL)
    all_flags = codec.number(attributes, uapi.IFA_FLAGS)
    return Address(
        family=family,
        address=local or address or "",
        prefix_length=prefix_length,
        broadcast=codec.ip_address(family, attributes, uapi.IFA_BROADCAST),
        peer=address if local is not None and address != local else None,
        scope=scope,
        flags=flags if all_flags is None else all_flags,
        protocol=attributes.get(uapi.IFA_PROTO, b"\0")[0],
        metric=codec.number(attributes, uapi.IFA_RT_PRIORITY) or 0,
        label=label if label is not None and ":" in label else None,
        preferred_s=None if preferred == _FOREVER else preferred,
        valid_s=None if valid == _FOREVER else valid,
    )
