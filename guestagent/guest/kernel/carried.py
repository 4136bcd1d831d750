"""What else belongs to a NIC: rules that name it, and neighbours that somebody set.

A rule names links by their names (K: net/core/fib_rules.c, fib_nl2rule (6.12)), so
it is made again with another name; all else in it stays as the kernel spells it.
"""

from __future__ import annotations

import errno
import socket
import struct

from guestagent.guest.core.model import Neighbour, Rule
from guestagent.guest.kernel.protocol import KernelError
from guestagent.guest.kernel.rtnetlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Message,
    RtNetlink,
    ip_address,
    packed,
    text,
    unpacked,
)

RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
FRA_IIFNAME, FRA_OIFNAME = 3, 17
NDA_DST, NDA_LLADDR = 1, 2
FIB_RULE_INVERT = 0x2
NUD_PERMANENT = 0x80
NTF_PROXY = 0x08
_RULE = struct.Struct("=12s")
_FLAGS = struct.Struct("=I")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")
_GONE = {errno.ENODEV, errno.ENOENT, errno.ESRCH}


def rules(rtnetlink: RtNetlink, name: str) -> tuple[Rule, ...]:
    """Return the rules that name a link, in the order of the kernel."""
    found: list[Rule] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        request = bytes([family]) + bytes(_RULE.size - 1)
        try:
            messages = rtnetlink.dump("list rules", RTM_GETRULE, request, _RULE.size)
        except KernelError as error:
            if error.code == errno.EOPNOTSUPP:  # a kernel without rules of that family
                continue
            raise
        found += [rule for rule in map(_rule, messages) if name in {rule.iif, rule.oif}]
    return tuple(found)


def add_rule(rtnetlink: RtNetlink, rule: Rule) -> None:
    """Add a rule; one that is there already is fine."""
    try:
        what = f"add a rule for {rule.iif or rule.oif}"
        rtnetlink.send(what, RTM_NEWRULE, _rule_payload(rule), NLM_F_CREATE | NLM_F_EXCL)
    except KernelError as error:
        if error.code != errno.EEXIST:
            raise


def delete_rule(rtnetlink: RtNetlink, rule: Rule) -> None:
    """Delete a rule; one that is gone already is fine."""
    try:
        what = f"delete a rule for {rule.iif or rule.oif}"
        rtnetlink.send(what, RTM_DELRULE, _rule_payload(rule))
    except KernelError as error:
        if error.code not in _GONE:
            raise


def neighbours(rtnetlink: RtNetlink, ifindex: int) -> tuple[Neighbour, ...]:
    """Return the permanent neighbours of a link and those it answers for."""
    found: list[Neighbour] = []
    # The entries that the kernel answers for are listed apart.
    for flags in (0, NTF_PROXY):
        request = _NEIGHBOUR.pack(socket.AF_UNSPEC, 0, 0, flags, 0)
        for message in rtnetlink.dump("list neighbours", RTM_GETNEIGH, request, _NEIGHBOUR.size):
            family, link, state, own_flags, _ = _NEIGHBOUR.unpack(message.fixed)
            wanted = state & NUD_PERMANENT or own_flags & NTF_PROXY
            if link != ifindex or not wanted or family not in {socket.AF_INET, socket.AF_INET6}:
                continue
            address = ip_address(family, message.attributes, NDA_DST)
            if address is not None:
                found.append(
                    Neighbour(
                        family=family,
                        address=address,
                        hardware_address=message.attributes.get(NDA_LLADDR, b"").hex(":"),
                        proxy=bool(own_flags & NTF_PROXY),
                    )
                )
    return tuple(found)


def put_neighbour(rtnetlink: RtNetlink, ifindex: int, neighbour: Neighbour) -> None:
    """Set a neighbour on a link for good, in place of what is known of it."""
    what = f"set neighbour {neighbour.address} on link {ifindex}"
    payload = _neighbour_payload(ifindex, neighbour)
    rtnetlink.send(what, RTM_NEWNEIGH, payload, NLM_F_CREATE | NLM_F_REPLACE)


def delete_neighbour(rtnetlink: RtNetlink, ifindex: int, neighbour: Neighbour) -> None:
    """Delete a neighbour; one that is gone already is fine."""
    what = f"delete neighbour {neighbour.address} of link {ifindex}"
    try:
        rtnetlink.send(what, RTM_DELNEIGH, _neighbour_payload(ifindex, neighbour))
    except KernelError as error:
        if error.code not in _GONE:
            raise


def _rule(message: Message) -> Rule:
    attributes = message.attributes
    named = {FRA_IIFNAME, FRA_OIFNAME}
    # Other flags say what became of the links that are named.
    flags = _FLAGS.unpack_from(message.fixed, _RULE.size - _FLAGS.size)[0] & FIB_RULE_INVERT
    fixed = message.fixed[: -_FLAGS.size] + _FLAGS.pack(flags)
    rest = {key: value for key, value in attributes.items() if key not in named}
    return Rule(
        family=message.fixed[0],
        iif=text(attributes, FRA_IIFNAME),
        oif=text(attributes, FRA_OIFNAME),
        rest=(fixed + packed(rest)).hex(),
    )


def _rule_payload(rule: Rule) -> bytes:
    data = bytes.fromhex(rule.rest)
    names = {FRA_IIFNAME: rule.iif, FRA_OIFNAME: rule.oif}
    attributes = {kind: name.encode() + b"\0" for kind, name in names.items() if name is not None}
    return data[: _RULE.size] + packed(unpacked(data, _RULE.size) | attributes)


def _neighbour_payload(ifindex: int, neighbour: Neighbour) -> bytes:
    state, flags = (0, NTF_PROXY) if neighbour.proxy else (NUD_PERMANENT, 0)
    attributes = {NDA_DST: socket.inet_pton(neighbour.family, neighbour.address)}
    if neighbour.hardware_address:
        attributes[NDA_LLADDR] = bytes.fromhex(neighbour.hardware_address.replace(":", ""))
    return _NEIGHBOUR.pack(neighbour.family, ifindex, state, flags, 0) + packed(attributes)
