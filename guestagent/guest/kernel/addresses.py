"""IP addresses of links: read whole, and written so that they are the same elsewhere."""

from __future__ import annotations

import errno
import socket
import struct

from guestagent.guest.core.model import Address
from guestagent.guest.kernel.protocol import KernelError
from guestagent.guest.kernel.rtnetlink import (
    NLM_F_CREATE,
    NLM_F_REPLACE,
    Message,
    RtNetlink,
    ip_address,
    number,
    packed,
    u32,
)

RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
IFA_ADDRESS, IFA_LOCAL, IFA_LABEL, IFA_BROADCAST, IFA_CACHEINFO = 1, 2, 3, 4, 6
IFA_FLAGS, IFA_RT_PRIORITY, IFA_PROTO = 8, 9, 11
IFA_F_NODAD, IFA_F_DADFAILED, IFA_F_TENTATIVE = 0x02, 0x08, 0x40
_KEPT_FLAGS = 0x10 | 0x100 | 0x200 | 0x400  # home, managetempaddr, noprefixroute, mcautojoin
_UNUSABLE = IFA_F_DADFAILED | IFA_F_TENTATIVE
_FOR_EVER = 0xFFFFFFFF
_FIXED = struct.Struct("=BBBBI")
_CACHEINFO = struct.Struct("=IIII")
_GONE = {errno.ENODEV, errno.EADDRNOTAVAIL}


def addresses(rtnetlink: RtNetlink, ifindex: int) -> tuple[Address, ...]:
    """Return the addresses of a link, in the kernel's order."""
    request = _FIXED.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    found = rtnetlink.dump("list addresses", RTM_GETADDR, request, _FIXED.size)
    return tuple(_decoded(m) for m in found if _FIXED.unpack(m.fixed)[4] == ifindex)


def add_address(rtnetlink: RtNetlink, ifindex: int, address: Address) -> None:
    """Add an address; one that is there already is updated. IPv6 without DAD.

    An update does not end what DAD has begun or found (K: net/ipv6/addrconf.c,
    inet6_addr_modify (6.12)), so such an address is made anew.
    """
    if address.family == socket.AF_INET6:
        present = (a for a in addresses(rtnetlink, ifindex) if a.address == address.address)
        if any(item.flags & _UNUSABLE for item in present):
            delete_address(rtnetlink, ifindex, address)
    flags = address.flags & _KEPT_FLAGS
    if address.family == socket.AF_INET6:
        flags |= IFA_F_NODAD
    attributes = _naming(address) | {IFA_FLAGS: u32(flags)}
    if address.broadcast is not None:
        attributes[IFA_BROADCAST] = socket.inet_pton(address.family, address.broadcast)
    if address.metric:
        attributes[IFA_RT_PRIORITY] = u32(address.metric)
    if address.protocol:
        attributes[IFA_PROTO] = bytes([address.protocol])
    if address.label is not None:
        attributes[IFA_LABEL] = address.label.encode() + b"\0"
    if address.valid_s is not None or address.preferred_s is not None:
        valid, preferred = (
            _FOR_EVER if seconds is None else seconds
            for seconds in (address.valid_s, address.preferred_s)
        )
        attributes[IFA_CACHEINFO] = _CACHEINFO.pack(preferred, valid, 0, 0)
    rtnetlink.send(
        f"add {address.address}/{address.prefix_length} to link {ifindex}",
        RTM_NEWADDR,
        _fixed(ifindex, address) + packed(attributes),
        NLM_F_CREATE | NLM_F_REPLACE,
    )


def delete_address(rtnetlink: RtNetlink, ifindex: int, address: Address) -> None:
    """Delete an address; one that is gone already is fine."""
    what = f"delete {address.address}/{address.prefix_length} from link {ifindex}"
    payload = _fixed(ifindex, address) + packed(_naming(address))
    try:
        rtnetlink.send(what, RTM_DELADDR, payload)
    except KernelError as error:
        if error.code not in _GONE:
            raise


def _fixed(ifindex: int, address: Address) -> bytes:
    return _FIXED.pack(address.family, address.prefix_length, 0, address.scope, ifindex)


def _naming(address: Address) -> dict[int, bytes]:
    """Return the attributes that tell one address from another."""
    own = socket.inet_pton(address.family, address.address)
    if address.family == socket.AF_INET6 and address.peer is None:
        return {IFA_ADDRESS: own}
    other = own if address.peer is None else socket.inet_pton(address.family, address.peer)
    return {IFA_LOCAL: own, IFA_ADDRESS: other}


def _decoded(message: Message) -> Address:
    family, prefix_length, flags, scope, _ = _FIXED.unpack(message.fixed)
    attributes = message.attributes
    local = ip_address(family, attributes, IFA_LOCAL)
    address = ip_address(family, attributes, IFA_ADDRESS)
    lifetimes = attributes.get(IFA_CACHEINFO)
    preferred, valid = (
        _CACHEINFO.unpack(lifetimes)[:2] if lifetimes is not None else (_FOR_EVER, _FOR_EVER)
    )
    label = attributes.get(IFA_LABEL, b"").rstrip(b"\0").decode(errors="replace")
    wide = number(attributes, IFA_FLAGS)
    return Address(
        family=family,
        address=local or address or "",
        prefix_length=prefix_length,
        broadcast=ip_address(family, attributes, IFA_BROADCAST),
        peer=address if local is not None and address != local else None,
        scope=scope,
        flags=flags if wide is None else wide,
        protocol=attributes.get(IFA_PROTO, b"\0")[0],
        metric=number(attributes, IFA_RT_PRIORITY) or 0,
        label=label if ":" in label else None,
        preferred_s=None if preferred == _FOR_EVER else preferred,
        valid_s=None if valid == _FOR_EVER else valid,
    )
