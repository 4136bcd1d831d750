"""Requests to the links of a host as bytes of rtnetlink, and its answers decoded."""

from __future__ import annotations

import errno
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from pyroute2 import NetlinkDumpInterrupted, NetlinkError
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg

from guestagent.host.sriov import netlink
from guestagent.host.sriov.core.model import LinkState, PortProfile, VfState, VlanProtocol
from guestagent.host.sriov.core.values import Carrier, Mac, Rate, SpoofCheck, Trust, Value, VlanTag
from guestagent.host.sriov.links import LinkError, PortResponse
from guestagent.host.sriov.netlink import NetlinkLinks
from guestagent.host.sriov.vf_attributes import (
    decode_port_response,
    encode_port_profile,
    service_tag,
)
from guestagent.netlink import uapi
from guestagent.netlink.codec import IFINFOMSG, NDMSG, pack, unpack
from guestagent.netlink.rtnetlink import RtnetlinkSocket

ABSENT = 0x7FFFFFF0
MAC = "52:54:00:aa:00:01"
MAC_BYTES = bytes.fromhex("525400aa0001")
INSTANCE = "0f0e0d0c-0b0a-0908-0706-050403020100"
HOST = "00000000-0000-0000-0000-000000000001"

Sent = list[tuple[int, int, bytes]]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """Type, flags and body of every message that goes to the kernel."""
    found: Sent = []

    def recording(kind: Any) -> Callable[[Any], None]:
        def encode(message: Any) -> None:
            super(kind, message).encode()
            header = message["header"]
            found.append((header["type"], header["flags"], bytes(message.data)[16:]))

        return encode

    for kind in (ifinfmsg, ndmsg):
        monkeypatch.setattr(kind, "encode", recording(kind), raising=False)
    put = RtnetlinkSocket._put

    def recorded_put(self: RtnetlinkSocket, kind: int, payload: bytes, flags: int) -> int:
        found.append((kind, flags, payload))
        return put(self, kind, payload, flags)

    monkeypatch.setattr(RtnetlinkSocket, "_put", recorded_put)
    return found


def written(sent: Sent, value: Value) -> bytes:
    """Write a value of VF 3 of a PF that is not there, and return its IFLA_VF_INFO."""
    with pytest.raises(LinkError):
        NetlinkLinks().write_vf(ABSENT, 3, value)
    (kind, flags, body) = sent[-1]
    assert (kind, flags) == (uapi.RTM_NEWLINK, uapi.NLM_F_REQUEST | uapi.NLM_F_ACK)
    assert IFINFOMSG.unpack_from(body) == (0, 0, ABSENT, 0, 0)
    listed = unpack(unpack(body, IFINFOMSG.size)[uapi.IFLA_VFINFO_LIST])
    return listed[uapi.IFLA_VF_INFO]


def state_of(*infos: bytes) -> VfState:
    """Decode a link message whose only VF has these attributes."""
    listed = pack({uapi.IFLA_VF_INFO: b"".join(infos)})
    body = IFINFOMSG.pack(0, 0, 1, 0, 0) + pack({uapi.IFLA_VFINFO_LIST: listed})
    message = ifinfmsg(struct.pack("=IHHII", 16 + len(body), 16, 0, 0, 0) + body)
    message.decode()
    return netlink._vf_state(message.get_attr("IFLA_VFINFO_LIST").get_attr("IFLA_VF_INFO"))


def mac_info(mac: bytes = MAC_BYTES) -> bytes:
    return struct.pack("=HHI32s", 40, 1, 3, mac)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Mac(mac=MAC), mac_info()),
        (Trust(on=True), struct.pack("=HHII", 12, 9, 3, 1)),
        (Trust(on=False), struct.pack("=HHII", 12, 9, 3, 0)),
        (SpoofCheck(on=False), struct.pack("=HHII", 12, 4, 3, 0)),
        (Carrier(state=LinkState.DISABLE), struct.pack("=HHII", 12, 5, 3, 2)),
        (
            Rate(min_mbit_per_s=10, max_mbit_per_s=1000),
            struct.pack("=HHIII", 16, 6, 3, 10, 1000),
        ),
        (
            VlanTag(vlan=7, qos=3, protocol=VlanProtocol.DOT1Q),
            struct.pack("=HHIII", 16, 2, 3, 7, 3),
        ),
        (
            VlanTag(vlan=0, qos=0, protocol=VlanProtocol.DOT1Q),
            struct.pack("=HHIII", 16, 2, 3, 0, 0),
        ),
    ],
)
def test_a_value_is_written_as_the_kernel_reports_it(
    value: Value, expected: bytes, sent: Sent
) -> None:
    info = written(sent, value)
    assert info == expected
    assert value.shown_by(state_of(*(() if isinstance(value, Mac) else (mac_info(),)), info))


def test_a_service_tag_has_its_protocol_and_the_length_that_the_kernel_requires(
    sent: Sent,
) -> None:
    value = VlanTag(vlan=7, qos=3, protocol=VlanProtocol.DOT1AD)
    protocol = int.from_bytes(b"\x88\xa8", sys.byteorder)
    tag = struct.pack("=HHHHIIIHH", 24, 12, 20, 1, 3, 7, 3, protocol, 0)
    info = written(sent, value)
    assert info == tag
    assert unpack(service_tag(3, 7, 3)[uapi.IFLA_VFINFO_LIST]) == {uapi.IFLA_VF_INFO: tag}
    state = state_of(mac_info(), struct.pack("=HHIII", 16, 2, 3, 7, 3), info)
    assert value.shown_by(state)
    assert not VlanTag(vlan=7, qos=3, protocol=VlanProtocol.DOT1Q).shown_by(state)


def test_values_that_a_driver_does_not_report_are_unknown() -> None:
    spoof_check = struct.pack("=HHII", 12, 4, 3, 0xFFFFFFFF)
    trust = struct.pack("=HHII", 12, 9, 3, 0xFFFFFFFF)
    assert state_of(mac_info(), spoof_check, trust) == VfState(mac=MAC)


def test_ranges_of_vlans_are_whole() -> None:
    infos = [
        {"vid": 1, "flags": 0x6},
        {"vid": 5, "flags": 0x8},
        {"vid": 8, "flags": 0x10},
        {"vid": 4094, "flags": 0},
    ]
    assert netlink._vlans(infos) == {1, 5, 6, 7, 8, 4094}


@pytest.mark.parametrize(
    ("call", "kind", "flags", "owner", "state"),
    [
        (NetlinkLinks.add_filter_entry, uapi.RTM_NEWNEIGH, 0x605, uapi.NTF_SELF, 0x80),
        (NetlinkLinks.remove_filter_entry, uapi.RTM_DELNEIGH, 0x5, uapi.NTF_SELF, 0x80),
        # The bridge must be able to relearn the entry: dynamic, neither permanent nor NOARP.
        (NetlinkLinks.add_bridge_entry, uapi.RTM_NEWNEIGH, 0x505, uapi.NTF_MASTER, 0x02),
        (NetlinkLinks.remove_bridge_entry, uapi.RTM_DELNEIGH, 0x5, uapi.NTF_MASTER, 0x02),
    ],
)
def test_a_forwarding_entry_is_the_device_s_own_or_a_dynamic_one_of_its_bridge(
    call: Callable[[NetlinkLinks, int, str], None],
    kind: int,
    flags: int,
    owner: int,
    state: int,
    sent: Sent,
) -> None:
    with suppress(LinkError):
        call(NetlinkLinks(), ABSENT, MAC)
    (found_kind, found_flags, body) = sent[-1]
    assert (found_kind, found_flags) == (kind, flags)
    assert NDMSG.unpack_from(body) == (7, ABSENT, state, owner, 0)
    assert unpack(body, NDMSG.size) == {uapi.NDA_LLADDR: MAC_BYTES}


@pytest.mark.parametrize(
    ("call", "code", "is_error"),
    [
        (NetlinkLinks.add_filter_entry, errno.EEXIST, False),
        (NetlinkLinks.add_filter_entry, errno.ENODEV, True),
        (NetlinkLinks.remove_filter_entry, errno.ENOENT, False),
        (NetlinkLinks.remove_filter_entry, errno.EPERM, True),
        (NetlinkLinks.add_bridge_entry, errno.EEXIST, True),
        (NetlinkLinks.remove_bridge_entry, errno.ENODEV, False),
        (NetlinkLinks.remove_bridge_entry, errno.EPERM, True),
    ],
)
def test_a_forwarding_entry_that_is_as_wanted_already_is_no_error(
    call: Callable[[NetlinkLinks, int, str], None],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_error: bool,
) -> None:
    def refuse(what: str, _request: Any) -> None:
        raise LinkError(f"could not {what}", code)

    monkeypatch.setattr(netlink, "_request", refuse)
    if is_error:
        with pytest.raises(LinkError, match=f"deliver {MAC} to link 7"):
            call(NetlinkLinks(), 7, MAC)
    else:
        call(NetlinkLinks(), 7, MAC)


def test_a_macvtap_is_created_in_bridge_mode(sent: Sent) -> None:
    with pytest.raises(LinkError):
        NetlinkLinks().create_macvtap(ABSENT, "net0", MAC, "alias")
    (kind, flags, body) = sent[-1]
    assert (kind, flags) == (uapi.RTM_NEWLINK, 0x605)
    found = unpack(body, IFINFOMSG.size)
    info = unpack(found.pop(uapi.IFLA_LINKINFO))
    assert found == {
        uapi.IFLA_IFNAME: b"net0\0",
        uapi.IFLA_LINK: struct.pack("=I", ABSENT),
        uapi.IFLA_ADDRESS: MAC_BYTES,
    }
    assert info[uapi.IFLA_INFO_KIND].rstrip(b"\0") == b"macvtap"
    assert unpack(info[uapi.IFLA_INFO_DATA]) == {1: struct.pack("=I", 4)}


@pytest.mark.parametrize("up", [True, False])
def test_an_interface_is_brought_up_or_down(sent: Sent, *, up: bool) -> None:
    with pytest.raises(LinkError):
        NetlinkLinks().set_up(ABSENT, up=up)
    assert sent[-1][2] == IFINFOMSG.pack(0, 0, ABSENT, int(up), 1)


def test_the_links_of_this_host_are_listed() -> None:
    links = {link.name: link for link in NetlinkLinks().links()}
    assert (links["lo"].up, links["lo"].names, links["lo"].kind) == (True, ("lo",), None)
    assert NetlinkLinks().vf_states(links["lo"].ifindex) == {}
    assert NetlinkLinks().port_profile_response(links["lo"].ifindex, 3) is None
    assert NetlinkLinks().port_vlans(links["lo"].ifindex) == frozenset()
    assert NetlinkLinks().forwarding_entries(MAC) == ()


def test_a_link_that_is_gone_is_an_error_of_a_query_and_none_of_a_removal() -> None:
    for query in (
        NetlinkLinks().vf_states,
        lambda pf: NetlinkLinks().port_profile_response(pf, 3),
    ):
        with pytest.raises(LinkError) as caught:
            query(ABSENT)
        assert caught.value.code == errno.ENODEV
        assert str(caught.value).startswith("could not query ")


def test_an_interrupted_dump_is_repeated_and_not_for_ever() -> None:
    torn = 3

    def request(_route: Any) -> tuple[str, ...]:
        nonlocal torn
        torn -= 1
        if torn > 0:
            raise NetlinkDumpInterrupted
        return ("answer",)

    assert netlink._request("list", request) == ("answer",)
    torn = 1000
    with pytest.raises(LinkError) as caught:
        netlink._request("list", request)
    assert caught.value.code == errno.EAGAIN


@pytest.mark.parametrize("error", [NetlinkError(errno.EPERM), OSError(errno.EPERM, "no")])
def test_a_refusal_has_its_errno_and_a_hint(error: Exception) -> None:
    def request(_route: Any) -> tuple[str, ...]:
        raise error

    with pytest.raises(LinkError, match="could not list: Operation not permitted") as caught:
        netlink._request("list", request)
    assert (caught.value.code, caught.value.hint) == (errno.EPERM, "run it as root")


def test_a_port_profile_is_requested_as_the_kernel_encodes_it() -> None:
    profile = PortProfile(name="gold", instance=INSTANCE, host=HOST)
    port = (
        struct.pack("=HHI", 8, 1, 3)
        + struct.pack("=HH8s", 9, 2, b"gold\0\0\0\0")
        + struct.pack("=HH16s", 20, 4, bytes(range(15, -1, -1)))
        + struct.pack("=HH16s", 20, 5, bytes(15) + b"\1")
        + struct.pack("=HHB3x", 5, 6, 2)
    )
    ports = struct.pack("=HH", 4 + len(port), 0x8001) + port
    assert encode_port_profile(3, profile) == {uapi.IFLA_VF_PORTS: ports}


def test_the_end_of_a_port_profile_names_none() -> None:
    port = struct.pack("=HHI", 8, 1, 3) + struct.pack("=HHB3x", 5, 6, 3)
    ports = struct.pack("=HH", 20, 0x8001) + port
    assert encode_port_profile(3, None) == {uapi.IFLA_VF_PORTS: ports}


def test_a_port_profile_is_sent_to_the_pf(sent: Sent) -> None:
    with pytest.raises(LinkError, match="could not disassociate VF 3"):
        NetlinkLinks().request_port_profile(ABSENT, 3, None)
    (kind, flags, body) = sent[-1]
    assert (kind, flags) == (uapi.RTM_NEWLINK, uapi.NLM_F_REQUEST | uapi.NLM_F_ACK)
    assert unpack(body, IFINFOMSG.size) == encode_port_profile(3, None)


def test_the_answer_of_each_vf_is_its_own() -> None:
    def answer(vf: int, response: int) -> bytes:
        port = struct.pack("=HHI", 8, 1, vf) + struct.pack("=HHH2x", 6, 7, response)
        return struct.pack("=HH", 4 + len(port), 1) + port

    ports = answer(2, PortResponse.ERROR) + answer(3, PortResponse.IN_PROGRESS)
    link = {uapi.IFLA_VF_PORTS: ports}
    assert decode_port_response(link, 2) == PortResponse.ERROR
    assert decode_port_response(link, 3) == PortResponse.IN_PROGRESS
    assert decode_port_response(link, 4) is None


@pytest.mark.parametrize("cut", range(0, 20, 3))
def test_an_answer_that_is_cut_off_is_none(cut: int) -> None:
    port = struct.pack("=HHI", 8, 1, 3) + struct.pack("=HHH2x", 6, 7, 256)
    whole = struct.pack("=HH", 4 + len(port), 1) + port
    assert decode_port_response({uapi.IFLA_VF_PORTS: whole[:cut]}, 3) is None
