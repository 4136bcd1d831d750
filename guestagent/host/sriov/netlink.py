"""The links of this host through pyroute2, and for three requests through our own codec.

pyroute2 is imported late (``pool.host_pool``), for only some commands need it.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Collection, Mapping
from typing import Any

from pyroute2 import IPRoute, NetlinkDumpInterrupted, NetlinkError

from guestagent.host.sriov import vf_attributes
from guestagent.host.sriov.core.model import LinkState, PortProfile, VfState, VlanProtocol
from guestagent.host.sriov.core.values import Carrier, Mac, Rate, SpoofCheck, Trust, Value, VlanTag
from guestagent.host.sriov.links import FdbEntry, HostLink, LinkError
from guestagent.netlink import uapi
from guestagent.netlink.codec import IFINFOMSG, Attributes, link_message, u32
from guestagent.netlink.rtnetlink import RtnetlinkSocket

BRIDGE_VLAN_RANGE_BEGIN, BRIDGE_VLAN_RANGE_END = 0x8, 0x10
DUMP_TRIES = 20
# Without RTEXT_FILTER_VF the kernel reports no VFs.
_WITH_VFS = uapi.RTEXT_FILTER_VF | uapi.RTEXT_FILTER_SKIP_STATS
_PROTOCOLS = {0x8100: VlanProtocol.DOT1Q, 0x88A8: VlanProtocol.DOT1AD}
_LINK_STATES = {0: LinkState.AUTO, 1: LinkState.ENABLE, 2: LinkState.DISABLE}
_NOT_REPORTED = 0xFFFFFFFF
_GONE = {errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL}

Request = Callable[[Any], Any]
"""Requests to make on an ``IPRoute``."""


class NetlinkLinks:
    """The Links protocol over rtnetlink; for one plain thread. ``Links`` documents the methods.

    Each request has a socket of its own, which takes 1 to 4 ms. From 0.9 on, a socket of pyroute2
    is subscribed to events that nobody would read during a migration, does not work any more
    once they overflow, and fails in a thread with a running event loop.
    """

    def links(self) -> tuple[HostLink, ...]:
        return tuple(map(_link, _request("list the links", lambda route: route.get_links())))

    def vf_states(self, pf: int) -> Mapping[int, VfState]:
        what = f"query the VFs of link {pf}"
        (link,) = _request(what, lambda route: route.link("get", index=pf, ext_mask=_WITH_VFS))
        listed = link.get_attr("IFLA_VFINFO_LIST")
        found = [] if listed is None else listed.get_attrs("IFLA_VF_INFO")
        return {info.get_attr("IFLA_VF_MAC")["vf"]: _vf_state(info) for info in found}

    def write_vf(self, pf: int, index: int, value: Value) -> None:
        what = f"write {value} to VF {index}"
        if isinstance(value, VlanTag) and value.protocol is VlanProtocol.DOT1AD:
            _set_link(what, pf, vf_attributes.service_tag(index, value.vlan, value.qos))
            return
        settings = {"vf": index, **_vf_settings(value)}
        self._change(what, lambda route: route.link("set", index=pf, vf=settings))

    def request_port_profile(self, pf: int, index: int, profile: PortProfile | None) -> None:
        what = "disassociate" if profile is None else f"associate port profile {profile.name!r} of"
        _set_link(f"{what} VF {index}", pf, vf_attributes.encode_port_profile(index, profile))

    def port_profile_response(self, pf: int, index: int) -> int | None:
        what = f"query the port profiles of link {pf}"
        request = link_message(pf, {uapi.IFLA_EXT_MASK: u32(_WITH_VFS)})
        with RtnetlinkSocket(LinkError) as rtnetlink:
            link = rtnetlink.get(what, uapi.RTM_GETLINK, request, IFINFOMSG.size)
        if link is None:
            raise LinkError(f"could not {what}", errno.ENODEV)
        return vf_attributes.decode_port_response(link.attributes, index)

    def set_up(self, ifindex: int, *, up: bool) -> None:
        state = "up" if up else "down"
        what = f"bring link {ifindex} {state}"
        self._change(what, lambda route: route.link("set", index=ifindex, state=state))

    def forwarding_entries(self, mac: str) -> tuple[FdbEntry, ...]:
        found = _request("list forwarding entries", lambda route: route.fdb("dump", lladdr=mac))
        return tuple(
            FdbEntry(ifindex=entry["ifindex"], mac=mac, own=bool(entry["flags"] & uapi.NTF_SELF))
            for entry in found
        )

    def add_filter_entry(self, ifindex: int, mac: str) -> None:
        # ndo_dflt_fdb_add and drivers of their own answer EEXIST for an entry that exists.
        self._fdb("add", ifindex, mac, uapi.NTF_SELF, ignored={errno.EEXIST})

    def remove_filter_entry(self, ifindex: int, mac: str) -> None:
        self._fdb("del", ifindex, mac, uapi.NTF_SELF, ignored=_GONE)

    def add_bridge_entry(self, port: int, mac: str) -> None:
        self._fdb("replace", port, mac, uapi.NTF_MASTER)

    def remove_bridge_entry(self, port: int, mac: str) -> None:
        self._fdb("del", port, mac, uapi.NTF_MASTER, ignored=_GONE)

    def port_vlans(self, port: int) -> frozenset[int]:
        found: set[int] = set()
        what = f"list the VLANs of link {port}"
        for link in _request(what, lambda route: route.get_vlans(index=port)):
            spec = link.get_attr("IFLA_AF_SPEC")
            if spec is not None:
                found |= _vlans(spec.get_attrs("IFLA_BRIDGE_VLAN_INFO"))
        return frozenset(found)

    def create_macvtap(self, lower: int, name: str, mac: str, alias: str) -> None:
        link = {"ifname": name, "kind": "macvtap", "link": lower, "address": mac}
        self._change(
            f"create macvtap {name}",
            lambda route: route.link("add", **link, macvtap_mode="bridge"),
        )
        # The create message takes no alias (K: net/core/rtnetlink.c, rtnl_create_link).
        (made,) = (link for link in self.links() if link.name == name)
        self._change(
            f"set the alias of {name}",
            lambda route: route.link("set", index=made.ifindex, ifalias=alias),
        )

    def delete_link(self, ifindex: int) -> None:
        what = f"delete link {ifindex}"
        self._change(what, lambda route: route.link("del", index=ifindex), ignored=_GONE)

    def _fdb(
        self, command: str, ifindex: int, mac: str, owner: int, *, ignored: Collection[int] = ()
    ) -> None:
        """Change a forwarding entry of the device itself or of the bridge above it.

        ``IPRoute.fdb`` would make each entry a static one, which the bridge never relearns.
        """
        entry = {
            "family": socket.AF_BRIDGE,
            "ifindex": ifindex,
            "lladdr": mac,
            "flags": owner,
            "state": uapi.NUD_PERMANENT if owner == uapi.NTF_SELF else uapi.NUD_REACHABLE,
        }
        verb = "no longer deliver" if command == "del" else "deliver"
        what = f"{verb} {mac} to link {ifindex}"
        self._change(what, lambda route: route.neigh(command, **entry), ignored=ignored)

    def _change(self, what: str, request: Request, *, ignored: Collection[int] = ()) -> None:
        """Make a change; errnos in ``ignored`` mean that nothing is to be done."""
        try:
            _request(what, request)
        except LinkError as error:
            if error.code not in ignored:
                raise


def _request(what: str, request: Request) -> tuple[Any, ...]:
    """Return the answers to a request; a dump that a concurrent change interrupted is repeated."""
    try:
        for _ in range(DUMP_TRIES):
            try:
                with IPRoute() as route:
                    return tuple(request(route))
            except NetlinkDumpInterrupted:
                continue
    except NetlinkError as error:
        raise LinkError(f"could not {what}", abs(error.code)) from error
    except OSError as error:
        raise LinkError(f"could not {what}", error.errno or errno.EIO) from error
    raise LinkError(f"could not {what}", errno.EAGAIN)


def _set_link(what: str, ifindex: int, attributes: Attributes) -> None:
    with RtnetlinkSocket(LinkError) as rtnetlink:
        rtnetlink.send(what, uapi.RTM_NEWLINK, link_message(ifindex, attributes))


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
        up=bool(message["flags"] & uapi.IFF_UP),
        carrier=bool(message.get_attr("IFLA_CARRIER")),
        kind=None if info is None else info.get_attr("IFLA_INFO_KIND"),
        lower=message.get_attr("IFLA_LINK"),
        upper=message.get_attr("IFLA_MASTER"),
        alias=message.get_attr("IFLA_IFALIAS"),
    )


def _vf_state(info: Any) -> VfState:
    """Decode IFLA_VF_INFO; all ones stand for what a driver does not report (rtnl_fill_vfinfo)."""
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
        trust=_switch(info.get_attr("IFLA_VF_TRUST"), "trust"),
        spoof_check=_switch(info.get_attr("IFLA_VF_SPOOFCHK"), "spoofchk"),
        link_state=None if state is None else _LINK_STATES.get(state["link_state"]),
        min_rate_mbit_per_s=None if rate is None else rate["min_tx_rate"],
        max_rate_mbit_per_s=None if rate is None else rate["max_tx_rate"],
    )


def _switch(attribute: Any, field: str) -> bool | None:
    if attribute is None or attribute[field] == _NOT_REPORTED:
        return None
    return bool(attribute[field])


def _vf_settings(value: Value) -> dict[str, Any]:
    """Return a value as ``IPRoute.link("set", vf=…)`` takes it."""
    match value:
        case Mac():
            return {"mac": value.mac}
        case VlanTag():
            return {"vlan": {"vlan": value.vlan, "qos": value.qos}}
        case Trust():
            return {"trust": int(value.on)}
        case SpoofCheck():
            return {"spoofchk": int(value.on)}
        case Carrier():
            (state,) = (key for key, state in _LINK_STATES.items() if state is value.state)
            return {"link_state": state}
        case Rate():
            low, high = value.min_mbit_per_s, value.max_mbit_per_s
            return {"rate": {"min_tx_rate": low, "max_tx_rate": high}}


def _vlans(infos: list[Any]) -> set[int]:
    """Return the VLANs of IFLA_BRIDGE_VLAN_INFO attributes, which hold numbers and ranges."""
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
