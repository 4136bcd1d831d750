"""Values that are written to a PF and read from it, as bytes of rtnetlink."""

from __future__ import annotations

import struct
import sys

import pytest

from guestagent.host.sriov import netlink, portprofile
from guestagent.host.sriov.core.model import LinkState, PortProfile, VfState, VlanProtocol
from guestagent.host.sriov.core.values import Carrier, Mac, Rate, SpoofCheck, Trust, Value, Vlan
from guestagent.host.sriov.links import PortResponse
from guestagent.pyroute import ifinfmsg

MAC = "52:54:00:aa:00:01"
INSTANCE = "0f0e0d0c-0b0a-0908-0706-050403020100"
HOST = "00000000-0000-0000-0000-000000000001"


def told(*attributes: tuple[str, object]) -> VfState:
    """Return the values that are read from a message with these attributes of VF 3."""
    message = ifinfmsg()
    info = ("IFLA_VF_INFO", {"attrs": list(attributes)})
    message["attrs"] = [("IFLA_VFINFO_LIST", {"attrs": [info]})]
    message.encode()
    again = ifinfmsg(message.data)
    again.decode()
    return netlink._vf_state(again.get_attr("IFLA_VFINFO_LIST").get_attr("IFLA_VF_INFO"))


@pytest.mark.parametrize(
    "value",
    [
        Mac(mac=MAC),
        Trust(on=True),
        Trust(on=False),
        SpoofCheck(on=False),
        Carrier(state=LinkState.DISABLE),
        Rate(min_mbit_per_s=10, max_mbit_per_s=1000),
        Vlan(vlan=7, qos=3, protocol=VlanProtocol.DOT1Q),
        Vlan(vlan=0, qos=0, protocol=VlanProtocol.DOT1Q),
    ],
)
def test_what_is_written_is_read_again(value: Value) -> None:
    mac = ("IFLA_VF_MAC", {"vf": 3, "mac": "00:00:00:00:00:00"})
    written = netlink._attribute(3, value)
    assert value.shown_by(told(*([] if isinstance(value, Mac) else [mac]), written))


def test_a_service_tag_is_written_and_read_with_its_protocol() -> None:
    value = Vlan(vlan=7, qos=3, protocol=VlanProtocol.DOT1AD)
    state = told(
        ("IFLA_VF_MAC", {"vf": 3, "mac": MAC}),
        ("IFLA_VF_VLAN", {"vf": 3, "vlan": 7, "qos": 3}),
        netlink._attribute(3, value),
    )
    assert value.shown_by(state)
    assert not Vlan(vlan=7, qos=3, protocol=VlanProtocol.DOT1Q).shown_by(state)


def test_a_service_tag_has_the_length_that_the_kernel_asks_for() -> None:
    message = ifinfmsg()
    value = Vlan(vlan=7, qos=3, protocol=VlanProtocol.DOT1AD)
    info = ("IFLA_VF_INFO", {"attrs": [netlink._attribute(3, value)]})
    message["attrs"] = [("IFLA_VFINFO_LIST", {"attrs": [info]})]
    message.encode()
    tag = struct.pack("=HHIIIHH", 20, 1, 3, 7, 3, int.from_bytes(b"\x88\xa8", sys.byteorder), 0)
    assert tag in bytes(message.data)


def test_what_a_driver_does_not_tell_is_not_known() -> None:
    state = told(
        ("IFLA_VF_MAC", {"vf": 3, "mac": MAC}),
        ("IFLA_VF_SPOOFCHK", {"vf": 3, "spoofchk": 0xFFFFFFFF}),
        ("IFLA_VF_TRUST", {"vf": 3, "trust": 0xFFFFFFFF}),
    )
    assert state == VfState(mac=MAC)


def test_ranges_of_vlans_are_whole() -> None:
    infos = [
        {"vid": 1, "flags": 0x6},
        {"vid": 5, "flags": 0x8},
        {"vid": 8, "flags": 0x10},
        {"vid": 4094, "flags": 0},
    ]
    assert netlink._vlans(infos) == {1, 5, 6, 7, 8, 4094}


def test_a_port_profile_is_asked_for_in_the_kernel_s_words() -> None:
    profile = PortProfile(name="gold", instance=INSTANCE, host=HOST)
    port = (
        struct.pack("=HHI", 8, 1, 3)
        + struct.pack("=HH8s", 9, 2, b"gold\0\0\0\0")
        + struct.pack("=HH16s", 20, 4, bytes(range(15, -1, -1)))
        + struct.pack("=HH16s", 20, 5, bytes(15) + b"\1")
        + struct.pack("=HHB3x", 5, 6, 2)
    )
    assert (
        portprofile.encode_request(3, profile) == struct.pack("=HH", 4 + len(port), 0x8001) + port
    )


def test_the_end_of_a_port_profile_names_none() -> None:
    port = struct.pack("=HHI", 8, 1, 3) + struct.pack("=HHB3x", 5, 6, 3)
    assert portprofile.encode_request(3, None) == struct.pack("=HH", 20, 0x8001) + port


def test_the_answer_of_each_vf_is_its_own() -> None:
    def answer(vf: int, response: int) -> bytes:
        port = struct.pack("=HHI", 8, 1, vf) + struct.pack("=HHH2x", 6, 7, response)
        return struct.pack("=HH", 4 + len(port), 1) + port

    ports = answer(2, PortResponse.ERROR) + answer(3, PortResponse.IN_PROGRESS)
    assert portprofile.decode_response(ports, 2) == PortResponse.ERROR
    assert portprofile.decode_response(ports, 3) == PortResponse.IN_PROGRESS
    assert portprofile.decode_response(ports, 4) is None


@pytest.mark.parametrize("cut", range(0, 20, 3))
def test_an_answer_that_is_cut_off_is_none(cut: int) -> None:
    port = struct.pack("=HHI", 8, 1, 3) + struct.pack("=HHH2x", 6, 7, 256)
    whole = struct.pack("=HH", 4 + len(port), 1) + port
    assert portprofile.decode_response(whole[:cut], 3) is None
