"""Keys of a description for a pair's VF on each host."""

from __future__ import annotations

from pathlib import Path

import pytest

from guestagent.errors import ConfigurationError
from guestagent.host.config.description import EXAMPLE, load
from guestagent.host.model import PairConfig
from guestagent.host.sriov.core.model import (
    LinkState,
    OnRefusal,
    PortProfile,
    Standby,
    VfSettings,
    VlanProtocol,
    Want,
)

MAC = "52:54:00:aa:00:01"
HEAD = """
[source]
qmp = "/a.sock"
[[pair]]
mac = "52:54:00:AA:00:01"
standby = "net0"
"""
CHOSEN = HEAD + 'vf = { driver = "vfio-pci", id = "vf0", bus = "rp2" }\n'
NAMED = HEAD + 'vf = { driver = "vfio-pci", id = "vf0", bus = "rp2", host = "0000:3b:02.1" }\n'


def pair(directory: Path, text: str) -> PairConfig:
    path = directory / "web1.toml"
    path.write_text(text)
    return load(path).pairs[0]


def test_without_the_table_a_vf_is_taken_as_it_is(tmp_path: Path) -> None:
    plain = pair(tmp_path, NAMED)
    assert (plain.sriov, plain.destination_sriov) == (None, None)


def test_a_vf_may_be_chosen_on_both_sides(tmp_path: Path) -> None:
    chosen = pair(tmp_path, CHOSEN + '[pair.sriov]\npf = "physnet1"\nvlan = 7\nmtu = 9000\n')
    assert chosen.sriov is not None
    assert chosen.sriov.want == Want(pfs=("physnet1",), vlan=7, mtu=9000)
    assert chosen.sriov.settings == VfSettings(mac=MAC, vlan=7)
    assert chosen.destination_sriov == chosen.sriov


def test_the_destination_lays_its_own_over_it(tmp_path: Path) -> None:
    text = (
        CHOSEN
        + '[pair.sriov]\npf = "physnet1"\nvlan = 7\nstandby_link = "tap0"\n'
        + '[pair.destination_sriov]\npf = ["a", "b"]\nstandby_link = "tap1"\n'
    )
    there = pair(tmp_path, text).destination_sriov
    assert there is not None
    assert there.want == Want(pfs=("a", "b"), vlan=7)
    assert there.settings.standby == Standby(link="tap1", mac=MAC)


def test_a_vf_that_is_named_is_the_one(tmp_path: Path) -> None:
    named = pair(tmp_path, NAMED + "[pair.sriov]\nvlan = 0\n")
    assert named.sriov is not None
    assert named.sriov.want == Want(vf="0000:3b:02.1")
    assert named.destination_sriov == named.sriov


def test_a_destination_that_chooses_does_not_take_the_address_of_the_source(
    tmp_path: Path,
) -> None:
    text = NAMED + '[pair.sriov]\nvlan = 7\n[pair.destination_sriov]\npf = "physnet1"\n'
    described = pair(tmp_path, text)
    assert described.sriov is not None
    assert described.sriov.want.vf == "0000:3b:02.1"
    assert described.destination_sriov is not None
    assert described.destination_sriov.want == Want(pfs=("physnet1",), vlan=7)
    assert described.destination_vf is not None
    assert described.destination_vf.properties == ()
    there = described.destination_vf.on_vf("0000:af:10.3")
    assert there.properties == (("host", "0000:af:10.3"),)
    assert there.on_vf("0000:af:10.5").properties == (("host", "0000:af:10.5"),)


def test_a_destination_without_a_vf_has_nothing_to_program(tmp_path: Path) -> None:
    text = NAMED + "destination_vf = false\n[pair.sriov]\nvlan = 7\n"
    assert pair(tmp_path, text).destination_sriov is None


def test_every_value_can_be_described(tmp_path: Path) -> None:
    every = EXAMPLE.replace("\n# ", "\n")
    for prose in ("With this table", "PF, bound", "listen"):
        every = every.replace(f"\n{prose}", f"\n# {prose}")
    for prose in ("The VF as device_add", "On the destination", "false: there is"):
        every = every.replace(f"\n{prose}", f"\n# {prose}")
    described = pair(tmp_path, every).sriov
    assert described is not None
    assert described.settings == VfSettings(
        mac=MAC,
        vlan=100,
        qos=0,
        vlan_protocol=VlanProtocol.DOT1AD,
        trust=False,
        spoof_check=True,
        link_state=LinkState.AUTO,
        min_rate_mbit_per_s=0,
        max_rate_mbit_per_s=1000,
        port_profile=PortProfile(
            name="gold",
            instance="0f0e0d0c-0b0a-0908-0706-050403020100",
            host="0f0e0d0c-0b0a-0908-0706-050403020101",
        ),
        on_refusal=OnRefusal.FAIL,
        standby=Standby(link="tap-web1", mac=MAC),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CHOSEN + "[pair.sriov]\nvlan = 7\n", "pair[0].sriov.pf is missing, and vf has no host"),
        (CHOSEN + '[pair.sriov]\npf = ["a", ""]\n', "pf is ['a', '']"),
        (NAMED + "[pair.sriov]\nvlan = 4095\n", "at most 4094"),
        (NAMED + "[pair.sriov]\nvlan = -1\n", "at least 0"),
        (NAMED + "[pair.sriov]\nqos = 8\n", "at most 7"),
        (NAMED + '[pair.sriov]\nlink_state = "on"\n', "must be one of: auto, enable, disable"),
        (NAMED + '[pair.sriov]\nport_host = "x"\n', "must be a UUID"),
        (NAMED + f'[pair.sriov]\nport_host = "{"0" * 32}"\n', "port_profile is missing"),
        (NAMED + "[pair.sriov]\nvlans = 7\n", "unknown key pair[0].sriov.vlans"),
        (
            NAMED + "[pair.destination_sriov]\nvlans = 7\n",
            "destination_sriov.vlans",
        ),
        (NAMED.replace("0000:3b:02.1", "3b:2.1") + "[pair.sriov]\nvlan = 7\n", "'3b:2.1'"),
        (NAMED + "sriov = 1\n", "sriov must be a table"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        pair(tmp_path, text)
    assert said in str(caught.value)
