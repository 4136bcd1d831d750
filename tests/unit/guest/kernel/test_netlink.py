"""rtnetlink's own ways of failing; what it does when it works, the contract tests say."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Any

import pytest

from guestagent.guest.core.model import BondOptions, BondState, Link
from guestagent.guest.kernel import encode, links
from guestagent.guest.kernel.namespace import HidingKernel
from guestagent.guest.kernel.neighbour_probe import Prover
from guestagent.guest.kernel.netlink import NetlinkKernel
from guestagent.guest.kernel.protocol import KernelError
from guestagent.guest.kernel.rtnetlink import Message, RtNetlink, unpacked
from guestagent.pyroute import NetlinkDumpInterrupted, ifinfmsg

DUMP_INTERRUPTED = 0x10


class TornSocket:
    """The real socket of pyroute2, whose first dumps are torn by a change."""

    def __init__(self, real: Any, torn: int) -> None:
        self._real = real
        self.torn = torn

    def nlm_request_batch(self, messages: list[Any]) -> Any:
        answers = tuple(self._real.nlm_request_batch(messages))
        if self.torn > 0:
            self.torn -= 1
            raise NetlinkDumpInterrupted
        return answers

    def close(self) -> None:
        self._real.close()


class TornBytes:
    """The real socket of RtNetlink, whose first datagrams say that the dump is torn."""

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
        torn: Any = TornBytes(kernel._bytes._socket, torn=3)
        kernel._bytes._socket = torn
        assert "lo" in {link.name for link in kernel.links()}
        torn.torn = 1000
        with pytest.raises(KernelError) as caught:
            kernel.links()
    assert caught.value.code == errno.EAGAIN


def test_a_torn_dump_of_pyroute2_is_begun_again_and_not_for_ever() -> None:
    prover = Prover()
    torn = TornSocket(prover._socket._socket, torn=3)
    prover._socket._socket = torn
    assert prover.reachable(1) is not None
    torn.torn = 1000
    with pytest.raises(KernelError) as caught:
        prover.reachable(1)
    prover.close()
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
    kernel._hideaway = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        with pytest.raises(KernelError):
            kernel.hide(0x7FFFFFF0)
    finally:
        kernel.close()


def test_an_answer_to_a_request_that_was_given_up_is_skipped() -> None:
    rtnetlink = RtNetlink()
    try:
        # The list of all links is asked for, and nobody takes the answer.
        rtnetlink._put(links.RTM_GETLINK, bytes(16), 0x301)
        found = links.link(rtnetlink, "lo")
        assert found is not None
        assert found.name == "lo"
        assert "lo" in {link.name for link in links.links(rtnetlink)}
    finally:
        rtnetlink.close()


class Spoken:
    """An RtNetlink that answers with messages which pyroute2 has encoded: it knows the numbers."""

    def __init__(self, *answers: Any) -> None:
        self._answers = answers

    def dump(self, what: str, kind: int, payload: bytes, fixed_size: int) -> list[Message]:
        found = []
        for answer in self._answers:
            answer.encode()
            body = bytes(answer.data)[16:]
            found.append(Message(fixed=body[:fixed_size], attributes=unpacked(body, fixed_size)))
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
    port = message(2, 0x1, ("IFLA_IFNAME", "ens3"), ("IFLA_MASTER", 4), ("IFLA_OPERSTATE", "DOWN"))
    vlan = message(5, 0x0, ("IFLA_IFNAME", "vlan5"), ("IFLA_LINK", 4), ("IFLA_CARRIER", 1))
    spoken: Any = Spoken(bond, port, vlan)
    found = links.links(spoken)
    assert found[0] == Link(
        ifindex=4,
        name="bond0",
        address="52:54:00:aa:00:01",
        kind="bond",
        mtu=9000,
        up=True,
        carrier=True,
        operational=True,
        quiet=True,
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
    assert (found[1].upper, found[1].up, found[1].carrier, found[1].quiet) == (
        4,
        True,
        False,
        False,
    )
    assert (found[2].lower, found[2].up, found[2].carrier, found[2].bond) == (
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
    """Return a link message as pyroute2 reads it: it knows the numbers."""
    heard = ifinfmsg(struct.pack("=IHHII", 16 + len(payload), 16, 0, 0, 0) + payload)
    heard.decode()
    return heard


def bond_data(payload: bytes) -> dict[str, Any]:
    """Return the options of a bond in a message."""
    info = understood(payload).get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == "bond"
    return dict(info.get_attr("IFLA_INFO_DATA")["attrs"])


def test_every_attribute_is_written_where_the_kernel_looks_for_it() -> None:
    options = BondOptions(miimon_ms=50, fail_over_mac=1, announcements=7)
    mac = "52:54:00:aa:00:01"
    made = encode.link(0, encode.new_bond("bond0", mac=mac, mtu=9000, options=options, group=9))
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
    tuned = encode.link(4, encode.tuning(miimon_ms=10, announcements=2))
    assert bond_data(tuned) == {"IFLA_BOND_MIIMON": 10, "IFLA_BOND_NUM_PEER_NOTIF": 2}
    assert bond_data(encode.link(4, encode.primary(3))) == {"IFLA_BOND_PRIMARY": 3}
    opened = encode.link(4, encode.all_ports_active(enabled=True))
    assert bond_data(opened) == {"IFLA_BOND_ALL_SLAVES_ACTIVE": 1}

    named = understood(encode.link(4, encode.alias("guestagent: pair", group=0)))
    assert (named["index"], named["flags"], named["change"]) == (4, 0, 0)
    assert named.get_attr("IFLA_IFALIAS") == "guestagent: pair"
    assert named.get_attr("IFLA_GROUP") == 0
    assert understood(encode.link(4, encode.upper(6))).get_attr("IFLA_MASTER") == 6
    assert understood(encode.link(4, encode.namespace(5))).get_attr("IFLA_NET_NS_FD") == 5
    quiet = understood(encode.link(4, encode.quietness(quiet=True))).get_attr("IFLA_AF_SPEC")
    assert quiet.get_attr("AF_INET6").get_attr("IFLA_INET6_ADDR_GEN_MODE") == 1
    for up in (True, False):
        moved = understood(encode.link(4, {}, up=up))
        assert (moved["flags"], moved["change"]) == (int(up), 1)
