"""The links of this host through rtnetlink; an instance belongs to one plain thread."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from guestagent.host.sriov.core.model import LinkState, PortProfile, VfState, VlanProtocol
from guestagent.host.sriov.core.values import Carrier, Mac, Rate, SpoofCheck, Trust, Value, Vlan
from guestagent.host.sriov.links import FdbEntry, HostLink, LinkError
from guestagent.host.sriov.portprofile import decode_response, encode_request
from guestagent.pyroute import (
    IFF_UP,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    RTM_DELLINK,
    RTM_DELNEIGH,
    RTM_GETLINK,
    RTM_GETNEIGH,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    Attrs,
    RtSocket,
    ifinfmsg,
    link_message,
    ndmsg,
    refused_as,
)

NTF_SELF, NTF_MASTER = 0x02, 0x04
NUD_REACHABLE, NUD_PERMANENT = 0x02, 0x80
MACVLAN_MODE_BRIDGE = 4

# K: include/uapi/linux/rtnetlink.h, RTEXT_FILTER_*: without the mask there is no data of VFs.
EXT_VF, EXT_BRIDGE_VLANS, EXT_NO_STATISTICS = 1, 2, 8
BRIDGE_VLAN_RANGE_BEGIN, BRIDGE_VLAN_RANGE_END = 0x8, 0x10

_PROTOCOLS = {0x8100: VlanProtocol.DOT1Q, 0x88A8: VlanProtocol.DOT1AD}
_LINK_STATES = {0: LinkState.AUTO, 1: LinkState.ENABLE, 2: LinkState.DISABLE}
_UNTOLD = 0xFFFFFFFF
_GONE = {errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL}

# pyroute2 leaves out the padding of struct ifla_vf_vlan_info, and the kernel then refuses every
# tag that is written with its protocol (K: net/core/rtnetlink.c, do_setvfinfo (6.5)).
_TAG = ifinfmsg.vflist.vfinfo.vf_vlist.ivvi
_TAG.fields = (("vf", "I"), ("vlan", "I"), ("qos", "I"), ("proto", ">H"), ("__pad", "2x"))


class NetlinkLinks:
    """The Links protocol over one rtnetlink socket."""

    def __init__(self) -> None:
        self._socket = RtSocket()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def links(self) -> tuple[HostLink, ...]:
        """Return every interface."""
        request = link_message(0, [("IFLA_EXT_MASK", EXT_NO_STATISTICS)])
        with _refused("list the links"):
            return tuple(_link(message) for message in self._socket.dump(request, RTM_GETLINK))

    def vf_states(self, pf: int) -> Mapping[int, VfState]:
        """Return what a PF says of its VFs, by their index."""
        listed = self._ask_vfs(pf).get_attr("IFLA_VFINFO_LIST")
        found: dict[int, VfState] = {}
        for info in [] if listed is None else listed.get_attrs("IFLA_VF_INFO"):
            index = info.get_attr("IFLA_VF_MAC")["vf"]
            found[index] = _vf_state(info)
        return found

    def write(self, pf: int, index: int, value: Value) -> None:
        """Write one value of a VF."""
        info = ("IFLA_VF_INFO", {"attrs": [_attribute(index, value)]})
        self._link_message(
            f"write {value} to VF {index}", pf, [("IFLA_VFINFO_LIST", {"attrs": [info]})]
        )

    def associate(self, pf: int, index: int, profile: PortProfile | None) -> None:
        """Ask for a port profile, or for the end of one; the answer comes later."""
        what = "disassociate" if profile is None else f"associate port profile {profile.name!r} of"
        self._link_message(
            f"{what} VF {index}", pf, [("IFLA_VF_PORTS", encode_request(index, profile))]
        )

    def association(self, pf: int, index: int) -> int | None:
        """Return what the switch says of the VF's port profile, None where it has none."""
        ports = self._ask_vfs(pf).get_attr("IFLA_VF_PORTS")
        return None if ports is None else decode_response(bytes.fromhex(_hex(ports)), index)

    def set_up(self, ifindex: int, *, up: bool) -> None:
        """Bring an interface up or down."""
        what = f"bring link {ifindex} {'up' if up else 'down'}"
        self._send(what, link_message(ifindex, up=up), RTM_NEWLINK)

    def fdb(self, mac: str) -> tuple[FdbEntry, ...]:
        """Return where frames to this MAC go."""
        request = ndmsg()
        request["family"] = socket.AF_BRIDGE
        with _refused("list the bridges' tables"):
            return tuple(
                FdbEntry(
                    ifindex=message["ifindex"], mac=mac, own=bool(message["flags"] & NTF_SELF)
                )
                for message in self._socket.dump(request, RTM_GETNEIGH)
                if message.get_attr("NDA_LLADDR") == mac
            )

    def add_to_filter(self, ifindex: int, mac: str) -> None:
        """Have a device take frames to this MAC; one that it takes already is fine.

        K: net/core/rtnetlink.c, ndo_dflt_fdb_add: an entry that is there is an error with
        NLM_F_EXCL alone; drivers of their own differ.
        """
        self._neighbour(RTM_NEWNEIGH, ifindex, mac, NTF_SELF, fine={errno.EEXIST})

    def remove_from_filter(self, ifindex: int, mac: str) -> None:
        """Undo that; what is not there is fine."""
        self._neighbour(RTM_DELNEIGH, ifindex, mac, NTF_SELF, fine=_GONE)

    def point_bridge(self, port: int, mac: str) -> None:
        """Have the bridge above ``port`` send this MAC there, until it learns otherwise."""
        self._neighbour(RTM_NEWNEIGH, port, mac, NTF_MASTER, fine=set())

    def forget_in_bridge(self, port: int, mac: str) -> None:
        """Have the bridge forget that; what it does not know is fine."""
        self._neighbour(RTM_DELNEIGH, port, mac, NTF_MASTER, fine=_GONE)

    def port_vlans(self, port: int) -> frozenset[int]:
        """Return the VLANs that a bridge lets through a port."""
        request = link_message(0, [("IFLA_EXT_MASK", EXT_BRIDGE_VLANS)])
        request["family"] = socket.AF_BRIDGE
        found: set[int] = set()
        with _refused(f"list the VLANs of link {port}"):
            for message in self._socket.dump(request, RTM_GETLINK):
                spec = message.get_attr("IFLA_AF_SPEC")
                if message["index"] == port and spec is not None:
                    found |= _vlans(spec.get_attrs("IFLA_BRIDGE_VLAN_INFO"))
        return frozenset(found)

    def create_macvtap(self, lower: int, name: str, mac: str, alias: str) -> None:
        """Create a macvtap in bridge mode, down. EEXIST when the name is taken."""
        data = {"attrs": [("IFLA_MACVTAP_MODE", MACVLAN_MODE_BRIDGE)]}
        info = {"attrs": [("IFLA_INFO_KIND", "macvtap"), ("IFLA_INFO_DATA", data)]}
        attrs: Attrs = [
            ("IFLA_LINK", lower),
            ("IFLA_IFNAME", name),
            ("IFLA_ADDRESS", mac),
            ("IFLA_LINKINFO", info),
        ]
        flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
        self._link_message(f"create macvtap {name}", 0, attrs, flags=flags)
        # The create message takes no alias (K: net/core/rtnetlink.c, rtnl_create_link).
        (made,) = (link for link in self.links() if link.name == name)
        self._link_message(f"name the owner of {name}", made.ifindex, [("IFLA_IFALIAS", alias)])

    def delete_link(self, ifindex: int) -> None:
        """Delete a virtual link; one that is gone is fine."""
        self._send(f"delete link {ifindex}", link_message(ifindex), RTM_DELLINK, fine=_GONE)

    def _ask_vfs(self, pf: int) -> Any:
        request = link_message(pf, [("IFLA_EXT_MASK", EXT_VF | EXT_NO_STATISTICS)])
        with _refused(f"look at the VFs of link {pf}"):
            return self._socket.request(request, RTM_GETLINK)[0]

    def _neighbour(self, kind: int, ifindex: int, mac: str, which: int, *, fine: set[int]) -> None:
        message = ndmsg()
        message["family"] = socket.AF_BRIDGE
        message["ifindex"] = ifindex
        message["flags"] = which
        message["state"] = NUD_PERMANENT if which == NTF_SELF else NUD_REACHABLE
        message["attrs"] = [("NDA_LLADDR", mac)]
        flags = NLM_F_REQUEST | NLM_F_ACK
        if kind == RTM_NEWNEIGH:
            flags |= NLM_F_CREATE | (NLM_F_REPLACE if which == NTF_MASTER else 0)
        verb = "deliver" if kind == RTM_NEWNEIGH else "no longer deliver"
        self._send(f"{verb} {mac} to link {ifindex}", message, kind, flags, fine=fine)

    def _link_message(
        self, what: str, ifindex: int, attrs: Attrs, flags: int = NLM_F_REQUEST | NLM_F_ACK
    ) -> None:
        self._send(what, link_message(ifindex, attrs), RTM_NEWLINK, flags)

    def _send(
        self,
        what: str,
        message: Any,
        kind: int,
        flags: int = NLM_F_REQUEST | NLM_F_ACK,
        *,
        fine: set[int] | None = None,
    ) -> None:
        try:
            with _refused(what):
                self._socket.request(message, kind, flags)
        except LinkError as error:
            if error.code not in (fine or set()):
                raise


def _refused(what: str) -> AbstractContextManager[None]:
    return refused_as(lambda code: LinkError(what, code))


def _link(message: Any) -> HostLink:
    info = message.get_attr("IFLA_LINKINFO")
    properties = message.get_attr("IFLA_PROP_LIST")
    name = message.get_attr("IFLA_IFNAME")
    other = [] if properties is None else properties.get_attrs("IFLA_ALT_IFNAME")
    return HostLink(
        ifindex=message["index"],
        name=name,
        names=(name, *other),
        mac=message.get_attr("IFLA_ADDRESS"),
        mtu=message.get_attr("IFLA_MTU") or 0,
        up=bool(message["flags"] & IFF_UP),
        carrier=bool(message.get_attr("IFLA_CARRIER")),
        kind=None if info is None else info.get_attr("IFLA_INFO_KIND"),
        lower=message.get_attr("IFLA_LINK"),
        upper=message.get_attr("IFLA_MASTER"),
        alias=message.get_attr("IFLA_IFALIAS"),
    )


def _vf_state(info: Any) -> VfState:
    """Read IFLA_VF_INFO; what a driver does not tell is all ones (K: rtnl_fill_vfinfo)."""
    vlan = info.get_attr("IFLA_VF_VLAN") or {"vlan": 0, "qos": 0}
    listed = info.get_attr("IFLA_VF_VLAN_LIST")
    tags = [] if listed is None else listed.get_attrs("IFLA_VF_VLAN_INFO")
    protocol = tags[0]["proto"] if tags else 0x8100
    rate = info.get_attr("IFLA_VF_RATE")
    state = info.get_attr("IFLA_VF_LINK_STATE")
    return VfState(
        mac=info.get_attr("IFLA_VF_MAC")["mac"],
        vlan=vlan["vlan"],
        qos=vlan["qos"],
        vlan_protocol=_PROTOCOLS.get(protocol, VlanProtocol.DOT1Q),
        trust=_truth(info.get_attr("IFLA_VF_TRUST"), "trust"),
        spoof_check=_truth(info.get_attr("IFLA_VF_SPOOFCHK"), "spoofchk"),
        link_state=None if state is None else _LINK_STATES.get(state["link_state"]),
        min_rate_mbit_per_s=None if rate is None else rate["min_tx_rate"],
        max_rate_mbit_per_s=None if rate is None else rate["max_tx_rate"],
    )


def _truth(attribute: Any, field: str) -> bool | None:
    if attribute is None or attribute[field] == _UNTOLD:
        return None
    return bool(attribute[field])


def _attribute(index: int, value: Value) -> tuple[str, Any]:
    match value:
        case Mac():
            return "IFLA_VF_MAC", {"vf": index, "mac": value.mac}
        case Vlan(protocol=VlanProtocol.DOT1Q):
            return "IFLA_VF_VLAN", {"vf": index, "vlan": value.vlan, "qos": value.qos}
        case Vlan():
            tag = {"vf": index, "vlan": value.vlan, "qos": value.qos, "proto": 0x88A8}
            return "IFLA_VF_VLAN_LIST", {"attrs": [("IFLA_VF_VLAN_INFO", tag)]}
        case Trust():
            return "IFLA_VF_TRUST", {"vf": index, "trust": int(value.on)}
        case SpoofCheck():
            return "IFLA_VF_SPOOFCHK", {"vf": index, "spoofchk": int(value.on)}
        case Carrier():
            (number,) = (key for key, state in _LINK_STATES.items() if state is value.state)
            return "IFLA_VF_LINK_STATE", {"vf": index, "link_state": number}
        case Rate():
            low, high = value.min_mbit_per_s, value.max_mbit_per_s
            return "IFLA_VF_RATE", {"vf": index, "min_tx_rate": low, "max_tx_rate": high}


def _vlans(infos: list[Any]) -> set[int]:
    found: set[int] = set()
    begin = 0
    for info in infos:
        if info["flags"] & BRIDGE_VLAN_RANGE_BEGIN:
            begin = info["vid"]
        elif info["flags"] & BRIDGE_VLAN_RANGE_END:
            found |= set(range(begin, info["vid"] + 1))
        else:
            found.add(info["vid"])
    return found


def _hex(shown: str) -> str:
    return shown.replace(":", "")
