"""Policy routing rules that name a link.

A rule names links by their names (K: net/core/fib_rules.c, fib_nl2rule (6.12)). To move one, it
is made again with another name; all other parts of it stay as the kernel encodes them.
"""

from __future__ import annotations

import errno
import socket
import struct

from guestagent.guest.core.addressing import Rule
from guestagent.guest.kernel.protocol import KernelError
from guestagent.netlink import uapi
from guestagent.netlink.codec import NetlinkMessage, pack, string, text, unpack
from guestagent.netlink.rtnetlink import RtnetlinkSocket

_FIB_RULE_HDR = struct.Struct("=12s")
_FLAGS = struct.Struct("=I")
_NAMES = {uapi.FRA_IIFNAME, uapi.FRA_OIFNAME}
_GONE = {errno.ENODEV, errno.ENOENT, errno.ESRCH}


def rules(rtnetlink: RtnetlinkSocket, name: str) -> tuple[Rule, ...]:
    """Return the rules that name a link, in the order of the kernel."""
    found: list[Rule] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        request = bytes([family]) + bytes(_FIB_RULE_HDR.size - 1)
        try:
            messages = rtnetlink.dump("list rules", uapi.RTM_GETRULE, request, _FIB_RULE_HDR.size)
        except KernelError as error:
            if error.code == errno.EOPNOTSUPP:  # a kernel without rules of that family
                continue
            raise
        found += [rule for rule in map(_decode, messages) if name in {rule.iif, rule.oif}]
    return tuple(found)


def add_rule(rtnetlink: RtnetlinkSocket, rule: Rule) -> None:
    """Add a rule unless it exists already."""
    what = f"add a rule for {rule.iif or rule.oif}"
    flags = uapi.NLM_F_CREATE | uapi.NLM_F_EXCL
    rtnetlink.send(what, uapi.RTM_NEWRULE, _payload(rule), flags, ignored={errno.EEXIST})


def delete_rule(rtnetlink: RtnetlinkSocket, rule: Rule) -> None:
    """Delete a rule if it exists."""
    what = f"delete a rule for {rule.iif or rule.oif}"
    rtnetlink.send(what, uapi.RTM_DELRULE, _payload(rule), ignored=_GONE)


def _decode(message: NetlinkMessage) -> Rule:
    attributes = message.attributes
    # The other flags describe the state of the named links.
    flags = _FLAGS.unpack_from(message.fixed, _FIB_RULE_HDR.size - _FLAGS.size)[0]
    fixed = message.fixed[: -_FLAGS.size] + _FLAGS.pack(flags & uapi.FIB_RULE_INVERT)
    rest = {key: value for key, value in attributes.items() if key not in _NAMES}
    return Rule(
        family=message.fixed[0],
        iif=text(attributes, uapi.FRA_IIFNAME),
        oif=text(attributes, uapi.FRA_OIFNAME),
        rest=(fixed + pack(rest)).hex(),
    )


def _payload(rule: Rule) -> bytes:
    data = bytes.fromhex(rule.rest)
    names = {uapi.FRA_IIFNAME: rule.iif, uapi.FRA_OIFNAME: rule.oif}
    attributes = {kind: string(name) for kind, name in names.items() if name is not None}
    return data[: _FIB_RULE_HDR.size] + pack(unpack(data, _FIB_RULE_HDR.size) | attributes)
