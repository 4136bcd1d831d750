"""Failures of rtnetlink, and the encoding of links held against pyroute2's."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from guestagent.guest.core.link import BondState, Link
from guestagent.guest.core.policy import BondOptions
from guestagent.guest.kernel import links
from guestagent.guest.kernel.namespace import HidingKernel
from guestagent.guest.kernel.netlink import NetlinkKernel
from guestagent.guest.kernel.protocol import KernelError
from guestagent.netlink import uapi
from guestagent.netlink.codec import IFINFOMSG, NetlinkMessage, unpack
from guestagent.netlink.rtnetlink import RtnetlinkSocket

DUMP_INTERRUPTED = 0x10


class TornSocket:
    """The real socket of RtnetlinkSocket, whose first datagrams mark the dump as interrupted."""

    def __init__(self, real: socket.socket, torn: int) -> None:
        self._real = real
        self.torn = torn

    def send(self, data: bytes) -> int:
        return self._real.send(data)

    def recv(self, size: int) -> bytes:
        data = bytearray(self._real.recv(size))
        if self.torn > 0:
            self.torn -= 1
            flags = struct.unpack_from("=H", data, 6)[0]
            struct.pack_into("=H", data, 6, flags | DUMP_INTERRUPTED)
        return bytes(data)

    def close(self) -> None:
        self._real.close()


def test_a_torn_dump_is_begun_again_and_one_that_is_always_torn_is_no_lack_of_rights() -> None:
    with NetlinkKernel() as kernel:
        torn: Any = TornSocket(kernel._socket, torn=3)
        kernel._socket = torn
        assert "lo" in {link.name for link in kernel.links()}
        torn.torn = 1000
        with pytest.raises(KernelError) as caught:
            kernel.links()
    assert caught.value.code == errno.EAGAIN


def test_one_process_may_open_one_socket_after_the_other() -> None:
    for _ in range(3):
        with NetlinkKernel() as kernel:
            assert "lo" in {link.name for link in kernel.links()}


def test_a_link_is_found_by_its_name_and_another_is_not() -> None:
    with NetlinkKernel() as kernel:
        found = kernel.link("lo")
        assert found is not None
        assert found.ifindex == socket.if_nametoindex("lo")
        assert kernel.link("absent0") is None
        assert kernel.link("a" * 15) is None


def test_a_nic_that_goes_before_it_is_hidden_is_refused_as_by_the_kernel() -> None:
    kernel = HidingKernel.__new__(HidingKernel)  # without a namespace, which takes root
    NetlinkKernel.__init__(kernel)
    kernel._hidden = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        with pytest.raises(KernelError):
            kernel.hide(0x7FFFFFF0)
    finally:
        kernel.close()


def test_an_answer_to_a_request_that_was_given_up_is_skipped() -> None:
    rtnetlink = RtnetlinkSocket(KernelError)
    try:
        # The list of all links is asked for, and nobody takes the answer.
        rtnetlink._put(uapi.RTM_GETLINK, bytes(IFINFOMSG.size), 0x301)
        found = links.link(rtnetlink, "lo")
        assert found is not None
        assert found.name == "lo"
        assert "lo" in {link.name for link in links.links(rtnetlink)}
    finally:
        rtnetlink.close()


class Spoken:
    """An RtnetlinkSocket whose answers pyroute2 has encoded, with its own table of numbers."""

    def __init__(self, *answers: Any) -> None:
        self._answers = answers

    def dump(self, what: str, kind: int, payload: bytes, fixed_size: int) -> list[NetlinkMessage]:
        found = []
        for answer in self._answers:
            answer.encode()
            body = bytes(answer.data)[16:]
            found.append(
                NetlinkMessage(fixed=body[:fixed_size], attributes=unpack(body, fixed_size))
            )
        return found


def message(ifindex: int, flags: int, *attrs: tuple[str, Any]) -> Any:
    """Return an RTM_NEWLINK message of pyroute2."""
    spoken = ifinfmsg()
    spoken["index"], spoken["flags"], spoken["attrs"] = ifindex, flags, list(attrs)
    return spoken


def test_every_attribute_is_read_where_the_kernel_puts_it() -> None:
    data = [
        ("IFLA_BOND_MODE", 1),
        ("IFLA_BOND_ACTIVE_SLAVE", 2),
        ("IFLA_BOND_MIIMON", 100),
        ("IFLA_BOND_PRIMARY", 3),
        ("IFLA_BOND_PRIMARY_RESELECT", 2),
        ("IFLA_BOND_FAIL_OVER_MAC", 1),
        ("IFLA_BOND_NUM_PEER_NOTIF", 5),
        ("IFLA_BOND_ALL_SLAVES_ACTIVE", 1),
    ]
    bond = message(
        4,
        0x1,
        ("IFLA_IFNAME", "bond0"),
        ("IFLA_ADDRESS", "52:54:00:aa:00:01"),
        ("IFLA_MTU", 9000),
        ("IFLA_OPERSTATE", "UP"),
        ("IFLA_CARRIER", 1),
        ("IFLA_IFALIAS", "guestagent: pair"),
        ("IFLA_GROUP", 7),
        (
            "IFLA_LINKINFO",
            {"attrs": [("IFLA_INFO_KIND", "bond"), ("IFLA_INFO_DATA", {"attrs": data})]},
        ),
        ("IFLA_AF_SPEC", {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", 1)]})]}),
    )
    spoken: Any = Spoken(bond)
    assert links.links(spoken)[0] == Link(
        ifindex=4,
        name="bond0",
        address="52:54:00:aa:00:01",
        kind="bond",
        mtu=9000,
        up=True,
        carrier=True,
        operational=True,
        ipv6_addr_gen=False,
        alias="guestagent: pair",
        group=7,
        bond=BondState(
            mode="active-backup",
            active=2,
            primary=3,
            miimon_ms=100,
            fail_over_mac=1,
            primary_reselect=2,
            announcements=5,
            all_ports_active=True,
        ),
    )


def test_a_port_names_its_bond_and_a_vlan_its_lower_link() -> None:
    port = message(2, 0x1, ("IFLA_IFNAME", "ens3"), ("IFLA_MASTER", 4), ("IFLA_OPERSTATE", "DOWN"))
    vlan = message(5, 0x0, ("IFLA_IFNAME", "vlan5"), ("IFLA_LINK", 4), ("IFLA_CARRIER", 1))
    spoken: Any = Spoken(port, vlan)
    found = links.links(spoken)
    port_state = (found[0].upper, found[0].up, found[0].carrier, found[0].ipv6_addr_gen)
    assert port_state == (4, True, False, True)
    assert (found[1].lower, found[1].up, found[1].carrier, found[1].bond) == (
        4,
        False,
        False,
        None,
    )


def test_what_a_link_sits_on_in_another_namespace_is_nothing_here() -> None:
    where = ("IFLA_LINK", 2), ("IFLA_LINK_NETNSID", 0)
    spoken: Any = Spoken(message(6, 0x1, ("IFLA_IFNAME", "veth6"), *where))
    (found,) = links.links(spoken)
    assert (found.name, found.lower) == ("veth6", None)


def test_all_alternative_names_are_read() -> None:
    names = ("enp1s0", "enxfeed")
    listed = ("IFLA_PROP_LIST", {"attrs": [("IFLA_ALT_IFNAME", name) for name in names]})
    spoken: Any = Spoken(message(2, 0x1, ("IFLA_IFNAME", "ens3"), listed))
    (found,) = links.links(spoken)
    assert (found.name, found.other_names) == ("ens3", names)


def understood(payload: bytes) -> Any:
    """Return a link message as pyroute2 decodes it, with its own table of numbers."""
    heard = ifinfmsg(struct.pack("=IHHII", 16 + len(payload), 16, 0, 0, 0) + payload)
    heard.decode()
    return heard


def bond_data(payload: bytes) -> dict[str, Any]:
    """Return the options of a bond in a message."""
    info = understood(payload).get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == "bond"
    return dict(info.get_attr("IFLA_INFO_DATA")["attrs"])


class Written(HidingKernel):
    """The kernel, whose requests are kept and not sent; its hidden namespace is descriptor 5."""

    def __init__(self) -> None:
        self._hidden = 5
        self.kept: list[bytes] = []

    def send(self, what: str, kind: int, payload: bytes, flags: int = 0, **_: Any) -> None:
        assert kind == uapi.RTM_NEWLINK
        self.kept.append(payload)

    def last(self) -> bytes:
        return self.kept.pop()


def test_every_attribute_is_written_where_the_kernel_looks_for_it() -> None:
    options = BondOptions(miimon_ms=50, fail_over_mac=1, announcements=7)
    mac = "52:54:00:aa:00:01"
    kernel = Written()
    kernel.create_bond("bond0", mac=mac, mtu=9000, options=options, group=9, ipv6_autoconf=True)
    made = kernel.last()
    heard = understood(made)
    attributes = ("IFLA_IFNAME", "IFLA_ADDRESS", "IFLA_MTU", "IFLA_GROUP")
    assert [heard.get_attr(name) for name in attributes] == ["bond0", mac, 9000, 9]
    assert bond_data(made) == {
        "IFLA_BOND_MODE": 1,
        "IFLA_BOND_MIIMON": 50,
        "IFLA_BOND_PRIMARY_RESELECT": 0,
        "IFLA_BOND_FAIL_OVER_MAC": 1,
        "IFLA_BOND_NUM_PEER_NOTIF": 7,
    }
    kernel.tune_bond(4, miimon_ms=10, announcements=2)
    assert bond_data(kernel.last()) == {"IFLA_BOND_MIIMON": 10, "IFLA_BOND_NUM_PEER_NOTIF": 2}
    kernel.set_fail_over_mac_active(4)
    assert bond_data(kernel.last()) == {"IFLA_BOND_FAIL_OVER_MAC": 1}
    kernel.set_primary(4, 3)
    assert bond_data(kernel.last()) == {"IFLA_BOND_PRIMARY": 3}
    kernel.set_all_ports_active(4, enabled=True)
    assert bond_data(kernel.last()) == {"IFLA_BOND_ALL_SLAVES_ACTIVE": 1}

    kernel.set_alias(4, "guestagent: pair")
    named = understood(kernel.last())
    assert (named["index"], named["flags"], named["change"]) == (4, 0, 0)
    assert named.get_attr("IFLA_IFALIAS") == "guestagent: pair"
    assert named.get_attr("IFLA_GROUP") == 0
    kernel.set_upper(4, 6)
    assert understood(kernel.last()).get_attr("IFLA_MASTER") == 6
    kernel.hide(4)
    assert understood(kernel.last()).get_attr("IFLA_NET_NS_FD") == 5
    kernel.set_ipv6_addr_gen(4, on=False)
    quiet = understood(kernel.last()).get_attr("IFLA_AF_SPEC")
    assert quiet.get_attr("AF_INET6").get_attr("IFLA_INET6_ADDR_GEN_MODE") == 1
    for up in (True, False):
        kernel.set_up(4, up=up)
        moved = understood(kernel.last())
        assert (moved["flags"], moved["change"]) == (int(up), 1)
