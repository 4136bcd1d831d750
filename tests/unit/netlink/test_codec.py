"""Netlink messages and attributes as bytes."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestagent.netlink import uapi
from guestagent.netlink.codec import (
    HEADER,
    ip_address,
    iter_attributes,
    messages,
    number,
    pack,
    string,
    text,
    texts,
    u8,
    u32,
    unpack,
)

ATTRIBUTES = st.dictionaries(
    st.integers(min_value=0, max_value=uapi.NLA_TYPE_MASK), st.binary(max_size=70), max_size=8
)


@given(ATTRIBUTES)
def test_attributes_come_back_in_their_order(attributes: dict[int, bytes]) -> None:
    assert list(unpack(pack(attributes)).items()) == list(attributes.items())


@given(ATTRIBUTES, st.binary(max_size=20), st.integers(min_value=0, max_value=600))
def test_truncated_attributes_are_read_up_to_the_last_complete_one(
    attributes: dict[int, bytes], noise: bytes, cut: int
) -> None:
    data = pack(attributes)
    found = list(iter_attributes(data[:cut]))
    assert found == list(attributes.items())[: len(found)]
    unpack(data[:cut] + noise)
    list(messages(data[:cut] + noise))


def test_flags_of_a_nested_attribute_are_no_part_of_its_type() -> None:
    assert unpack(pack({5 | uapi.NLA_F_NESTED: b"x"})) == {5: b"x"}


def test_a_datagram_has_several_messages_and_the_last_may_be_truncated() -> None:
    body = u32(7)
    one = HEADER.pack(HEADER.size + 4, 16, 2, 5, 0) + body
    found = list(messages(one + one + one[:10]))
    assert [(m.kind, m.flags, m.sequence, m.body) for m in found] == [(16, 2, 5, body)] * 2
    assert list(messages(struct.pack("=IHHII", 8, 16, 0, 0, 0))) == []


def test_values_are_decoded_by_their_type() -> None:
    found = {1: u8(200), 2: u32(70_000), 3: b"", 4: string("ens3"), 5: bytes([192, 0, 2, 1])}
    assert [number(found, kind) for kind in (1, 2, 3, 9)] == [200, 70_000, None, None]
    assert (text(found, 4), text(found, 9)) == ("ens3", None)
    assert ip_address(socket.AF_INET, found, 5) == "192.0.2.1"
    assert ip_address(socket.AF_INET, found, 9) is None
    assert texts(pack({53: string("a")}) + pack({53: string("b"), 1: string("c")}), 53) == (
        "a",
        "b",
    )


@pytest.mark.parametrize("name", ["eth0", "\u00e9", "\udcff"])
def test_a_name_is_encoded_as_the_command_line_decoded_it(name: str) -> None:
    assert string(name) == name.encode(errors="surrogateescape") + b"\0"
