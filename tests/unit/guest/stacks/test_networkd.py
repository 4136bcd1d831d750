"""systemd-networkd: which file configures a NIC, and what the bond gets of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from guestagent.guest.core.addressing import Address
from guestagent.guest.core.link import Link
from guestagent.guest.core.snapshot import StackFile
from guestagent.guest.stacks.base import Nic, Strength
from guestagent.guest.stacks.networkd.network_file import Matchable
from guestagent.guest.stacks.networkd.stack import Networkd

MAC = "52:54:00:00:00:01"
NIC = Link(
    ifindex=2,
    name="ens3",
    address=MAC,
    permanent_address=MAC,
    driver="virtio_net",
    bus_address="0000:01:00.0",
    other_names=("enp1s0",),
)
NIC_OF_BOND = Nic(bond="bond0", link=NIC)
PLACES = {
    "etc": "etc/systemd/network",
    "run": "run/systemd/network",
    "usr": "usr/lib/systemd/network",
}


@dataclass
class Disk:
    """The directories of one guest under a temporary root."""

    root: Path

    def path(self, name: str) -> Path:
        place, _, file = name.partition("/")
        return self.root / PLACES[place] / file

    def put(self, name: str, content: str) -> None:
        file = self.path(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    @property
    def networkd(self) -> Networkd:
        return Networkd(self.root)

    def files(
        self, properties: Mapping[str, str] | None = None, nic: Link = NIC
    ) -> dict[str, StackFile]:
        asked = Nic(bond="bond0", link=nic, properties=lambda: properties or {})
        found = self.networkd.files(asked, owned=True)
        return {Path(file.path).name: file for file in found}

    def bond_file(self, properties: Mapping[str, str] | None = None) -> str | None:
        file = self.files(properties).get("05-guestagent-bond0.network")
        return file.content if file else None


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def test_a_file_that_has_changed_is_read_again(disk: Disk) -> None:
    disk.put("etc/50-lan.network", "[Match]\nName=en*\n\n[Network]\nDHCP=yes\n")
    networkd = disk.networkd

    def content() -> str:
        return networkd.files(NIC_OF_BOND, owned=True)[-1].content

    assert "DHCP=yes" in content()
    disk.put("etc/50-lan.network", "[Match]\nName=en*\n\n[Network]\nDHCP=ipv4\n")
    assert "DHCP=ipv4" in content()


def test_the_bond_gets_the_nics_own_file_with_another_match(disk: Disk) -> None:
    lines = "[Match]\nName=en*\n\n[Network]\nIPv6AcceptRA=no\n\n[Address]\nX=1\n"
    disk.put("etc/50-lan.network", lines)
    content = disk.bond_file()
    assert content is not None
    assert content.splitlines()[1:] == [
        "[Match]",
        "Name=bond0",
        "Kind=bond",
        "",
        "[Network]",
        "IPv6AcceptRA=no",
        "",
        "[Address]",
        "X=1",
    ]


@pytest.mark.parametrize(
    ("properties", "number"),
    [
        # What networkd 257 and NetworkManager 1.52 asked with for a NIC of this name.
        ({"ID_NET_NAME_PATH": "enp1s0", "ID_NET_NAME_MAC": "enx525400000001"}, 0x56504D98),
        ({"ID_NET_NAME_SLOT": "enp1s0", "ID_NET_NAME_PATH": "enp9s0"}, 0x56504D98),
    ],
)
def test_the_bond_is_the_dhcp_client_that_the_nic_was(
    disk: Disk, properties: Mapping[str, str], number: int
) -> None:
    disk.put("etc/50-lan.network", "[Match]\nName=en*\n[Network]\nDHCP=ipv4\n")
    content = disk.bond_file(properties) or ""
    assert f"[DHCPv4]\nIAID={number}\n" in content
    assert f"[DHCPv6]\nIAID={number}\n" in content


def test_an_iaid_that_the_user_has_chosen_stays(disk: Disk) -> None:
    disk.put("etc/50-lan.network", "[Match]\nName=en*\n[Network]\nDHCP=yes\n[DHCPv4]\nIAID=7\n")
    assert (disk.bond_file() or "").count("IAID") == 1


def test_a_bond_that_takes_over_a_nic_in_use_keeps_what_it_finds_until_the_next_boot(
    disk: Disk,
) -> None:
    disk.put("etc/50-lan.network", "[Match]\nName=en*\n[Network]\nDHCP=yes\n")
    used = replace(NIC, addresses=(Address(family=2, address="192.0.2.1", prefix_length=24),))
    kept = disk.files(nic=used)["05-guestagent-bond0.network"]
    assert kept.content.endswith("[Network]\nKeepConfiguration=yes\n")
    assert "KeepConfiguration" not in (disk.bond_file() or "")
    disk.networkd.write(kept.path, kept.content)
    assert disk.files()["05-guestagent-bond0.network"].in_place


def returned(disk: Disk) -> tuple[StackFile, ...]:
    """Return the files that must be on disk when the NIC is removed from its bond."""
    return disk.networkd.files_for_return(NIC_OF_BOND, owned=True)


def test_a_nic_that_gets_its_lease_back_keeps_it_until_the_next_boot(disk: Disk) -> None:
    disk.put("etc/50-lan.network", "[Match]\nName=en*\n[Network]\nDHCP=yes\n[Link]\nX=1\n")
    for file in disk.files().values():
        disk.networkd.write(file.path, file.content)
    (file,) = returned(disk)
    assert not file.in_place
    disk.networkd.write(file.path, file.content)
    disk.networkd.give_back("bond0")
    (file,) = returned(disk)
    assert file.in_place
    assert file.content.splitlines()[1:] == [
        *("[Match]", f"PermanentMACAddress={MAC}", "Driver=virtio_net", ""),
        *("[Network]", "DHCP=yes", "", "[Link]", "X=1", ""),
        *("[Network]", "KeepConfiguration=yes"),
    ]


def test_the_bond_gets_the_file_of_a_name_that_the_vf_got_first(disk: Disk) -> None:
    lines = f"[Match]\nPermanentMACAddress={MAC}\nName=lan0\n[Network]\nDHCP=ipv4\n"
    disk.put("etc/10-netplan-lan0.network", lines)
    for nic, configured in ((NIC_OF_BOND, False), (replace(NIC_OF_BOND, vf_name="lan0"), True)):
        files = disk.networkd.files(nic, owned=True)
        assert any(file.path.endswith("-bond0.network") for file in files) is configured
        owned = disk.networkd.ownership(nic).strength is Strength.CONFIGURED
        assert owned is configured


@pytest.mark.parametrize("dhcp", ["ipv4", "no"])
def test_a_nic_gets_back_the_file_of_a_name_that_its_vf_got_first(disk: Disk, dhcp: str) -> None:
    given = f"[Network]\nDHCP={dhcp}\nIPv6AcceptRA={'yes' if dhcp == 'ipv4' else 'no'}\n"
    lines = f"[Match]\nPermanentMACAddress={MAC}\nName=lan0\n\n{given}"
    disk.put("etc/10-netplan-lan0.network", lines)
    assert returned(disk) == (), "nobody configured the bond by it"
    for file in disk.networkd.files(replace(NIC_OF_BOND, vf_name="lan0"), owned=True):
        disk.networkd.write(file.path, file.content)
    for _ in range(2):
        (file,) = returned(disk)  # the VF may be gone, and its name with it
        assert f"PermanentMACAddress={MAC}\nDriver=virtio_net\n\n{given}" in file.content
        assert ("KeepConfiguration=yes" in file.content) is (dhcp == "ipv4")
        disk.networkd.write(file.path, file.content)
    disk.put("etc/10-netplan-lan0.network", "")
    assert returned(disk) == (), "the user has taken it away"


def test_a_bond_without_its_file_is_not_configured_by_the_file_of_its_mac_address(
    disk: Disk,
) -> None:
    disk.put("etc/50-lan.network", f"[Match]\nMACAddress={MAC}\n[Network]\nDHCP=yes\n")
    for file in (*disk.files().values(), *returned(disk)):
        disk.networkd.write(file.path, file.content)
    bond = Matchable.bond("bond0", MAC)
    first = disk.networkd.first_match(bond)
    assert first is not None
    assert not first.unmanaged, "its own comes first"
    disk.networkd.give_back("bond0")
    first = disk.networkd.first_match(bond)
    assert first is not None
    assert first.unmanaged
    assert all(file.in_place for file in returned(disk))
    assert not disk.files()["05-guestagent-bond0.network"].in_place, "it is bonded again"


def test_a_nic_that_becomes_a_port_again_is_a_port_to_networkd(disk: Disk) -> None:
    disk.put("etc/50-lan.network", "[Match]\nName=en*\n[Network]\nDHCP=yes\n")
    for file in (*disk.files().values(), *returned(disk)):
        disk.networkd.write(file.path, file.content)
    first = disk.networkd.first_match(Matchable.nic(NIC, dict))
    assert first is not None
    assert first.unmanaged


@pytest.mark.parametrize(
    "network", ["IPv6AcceptRA=no", "DHCP=yes\nKeepConfiguration=dhcp", "Bond=other"]
)
def test_a_nic_that_needs_no_file_of_its_own_gets_none(disk: Disk, network: str) -> None:
    disk.put("etc/50-lan.network", f"[Match]\nName=en*\n[Network]\n{network}\n")
    assert returned(disk) == ()


def test_a_lease_that_the_bond_has_is_never_released(disk: Disk) -> None:
    disk.put("etc/50-lan.network", "[Match]\nName=en*\n[Network]\nDHCP=yes\n")
    assert (disk.bond_file() or "").count("SendRelease=no") == 2
    disk.put("etc/50-lan.network", "[Match]\nName=en*\n[Network]\nDHCP=yes\n[DHCPv4]\nIAID=7\n")
    assert (disk.bond_file() or "").count("SendRelease=no") == 2


def test_static_addresses_need_nothing_to_be_kept(disk: Disk) -> None:
    disk.put("etc/50-lan.network", "[Match]\nName=en*\n[Network]\nIPv6AcceptRA=no\n")
    used = replace(NIC, addresses=(Address(family=2, address="192.0.2.1", prefix_length=24),))
    content = disk.files(nic=used)["05-guestagent-bond0.network"].content
    assert "Keep" not in content
    assert "IAID" not in content


def test_the_ports_are_declared_unmanaged(disk: Disk) -> None:
    content = disk.files()["05-guestagent-bond0-ports.network"].content
    assert f"PermanentMACAddress={MAC}\nKind=!bond\n" in content
    assert content.endswith("[Link]\nUnmanaged=yes\n")


def test_a_file_of_the_nic_that_happens_to_match_the_bond_is_not_the_bonds_own(disk: Disk) -> None:
    disk.put("etc/50-lan.network", f"[Match]\nMACAddress={MAC.upper()}\n[Network]\nDHCP=yes\n")
    assert "IAID=" in (disk.bond_file() or "")


def test_networkd_is_kept_off_a_bond_that_a_file_of_the_nic_matches_until_it_takes_over(
    disk: Disk,
) -> None:
    disk.put("etc/50-lan.network", f"[Match]\nMACAddress={MAC}\n[Network]\nDHCP=yes\n")
    file = disk.files()["05-guestagent-bond0.network"]
    content = file.pre_takeover_content or ""
    assert content.endswith("[Match]\nName=bond0\nKind=bond\n\n[Link]\nUnmanaged=yes\n")
    disk.networkd.write(file.path, content)
    assert not disk.files()["05-guestagent-bond0.network"].in_place, "it is to take over yet"
    disk.put("etc/50-lan.network", "[Match]\nName=en*\n[Network]\nDHCP=yes\n")
    assert disk.files()["05-guestagent-bond0.network"].pre_takeover_content is None


def test_static_addresses_of_a_file_that_matches_the_bond_too_are_left_as_they_are(
    disk: Disk,
) -> None:
    disk.put("etc/50-lan.network", f"[Match]\nMACAddress={MAC}\n[Network]\nIPv6AcceptRA=no\n")
    assert disk.bond_file() is None


def test_a_bond_file_of_the_user_wins_over_the_nics(disk: Disk) -> None:
    disk.put("etc/10-bond.network", "[Match]\nName=bond0\n[Network]\nDHCP=no\n")
    disk.put("etc/50-lan.network", "[Match]\nName=en*\n[Network]\nDHCP=yes\n")
    assert disk.bond_file() is None


def test_the_first_match_by_base_name_wins_whatever_its_directory(disk: Disk) -> None:
    disk.put("usr/20-a.network", "[Match]\nName=en*\n[Network]\nDescription=first\n")
    disk.put("etc/30-b.network", "[Match]\nName=en*\n[Network]\nDescription=second\n")
    assert "Description=first" in (disk.bond_file() or "")


def test_etc_masks_the_same_name_elsewhere(disk: Disk) -> None:
    disk.put("usr/20-a.network", "[Match]\nName=en*\n[Network]\nDescription=masked\n")
    disk.put("etc/20-a.network", "")
    disk.put("etc/30-b.network", "[Match]\nName=en*\n[Network]\nDescription=taken\n")
    assert "Description=taken" in (disk.bond_file() or "")


def test_drop_ins_are_part_of_the_configuration(disk: Disk) -> None:
    disk.put("usr/20-a.network", "[Match]\nName=en*\n[Network]\nDHCP=yes\n")
    disk.put("etc/20-a.network.d/mtu.conf", "[Link]\nMTUBytes=9000\n")
    assert "MTUBytes=9000" in (disk.bond_file() or "")


@pytest.mark.parametrize("section", ["[Network]\nBond=lag0\n", "[Link]\nUnmanaged=yes\n"])
def test_a_nic_that_belongs_to_something_else_gives_the_bond_nothing(
    disk: Disk, section: str
) -> None:
    disk.put("etc/50-lan.network", f"[Match]\nName=en*\n{section}")
    assert disk.bond_file() is None


@pytest.mark.parametrize(
    ("match", "matches"),
    [
        ("Name=en* eth*", True),
        ("Name=!en*", False),
        ("Name=!eth*", True),
        (f"PermanentMACAddress={MAC}", True),
        ("Driver=virtio_net", True),
        ("Driver=e1000e", False),
        ("Type=ether", True),
        ("Kind=bond", False),
        ("Kind=!bond", True),
        ("Path=pci-0000:01*", True),
        ("Path=pci-0000:09*", False),
        ("Property=COLOUR=blue", True),
        ("Property=!COLOUR=blue", False),
        ("Property=COLOUR=bl*", True),
        ("Name=en*\nDriver=e1000e", False),
        ("Name=eth*\nName=en*", True),
        ("Name=en*\nName=!ens3 enp*", False),
        ("Name=en*\nName=\nName=eth*", False),
        ("Name=!veth* en*", False),
        ("Name=enp1s0", True),
        ("Name=enp1s*", True),
        ("MACAddress=02:00:00:00:00:01\nMACAddress=52-54-00-00-00-01", True),
        ("Virtualization=kvm", False),
    ],
)
def test_match_sections_are_evaluated_as_networkd_does(
    disk: Disk, match: str, matches: bool
) -> None:
    disk.put("etc/50-lan.network", f"[Match]\n{match}\n[Network]\nDHCP=yes\n")
    properties = {"ID_PATH": "pci-0000:01:00.0", "COLOUR": "blue"}
    assert (disk.bond_file(properties) is not None) == matches


def test_a_comment_may_be_in_any_encoding(disk: Disk) -> None:
    disk.put("etc/50-lan.network", "")
    lines = "# f\xfcr das Netz\n[Match]\nName=en*\n[Network]\nDHCP=yes\n"
    disk.path("etc/50-lan.network").write_bytes(lines.encode("latin-1"))
    assert disk.bond_file() is not None


def test_a_file_in_place_is_recognised_and_a_changed_source_is_noticed(disk: Disk) -> None:
    disk.put("etc/50-lan.network", "[Match]\nName=en*\n[Network]\nDHCP=yes\n")
    for file in disk.files().values():
        assert not file.in_place
        disk.networkd.write(file.path, file.content)
    assert all(file.in_place for file in disk.files().values())
    disk.put("etc/50-lan.network", "[Match]\nName=en*\n[Network]\nDHCP=ipv4\n")
    changed = [name for name, file in disk.files().items() if not file.in_place]
    assert changed == ["05-guestagent-bond0.network"]


def test_removing_takes_away_the_bonds_files_only(disk: Disk) -> None:
    disk.put("run/05-guestagent-bond1.network", "other")
    for file in disk.files().values():
        disk.networkd.write(file.path, file.content)
    disk.networkd.give_back("bond0")
    assert [path.name for path in disk.path("run/").iterdir()] == ["05-guestagent-bond1.network"]


@pytest.mark.parametrize(
    ("line", "given"),
    [
        ("[IPv6AcceptRA]\nToken=prefixstable", "[IPv6AcceptRA]\nToken=static:::67bc:4fcb:1:e130"),
        ("[IPv6AcceptRA]\nToken=eui64", "[IPv6AcceptRA]\nToken=eui64"),
        ("[Network]\nIPv6Token=prefixstable", "[Network]\nIPv6Token=static:::67bc:4fcb:1:e130"),
    ],
)
def test_a_stable_privacy_address_is_the_same_on_the_bond_and_at_boots_with_the_bond_first(
    disk: Disk, line: str, given: str
) -> None:
    disk.put("etc/50-lan.network", f"[Match]\nName=en*\n\n{line}\n")
    slaac = Address(family=10, address="2001:db8::67bc:4fcb:1:e130", prefix_length=64, valid_s=100)
    leased = replace(slaac, address="2001:db8::10", prefix_length=128)
    temporary = replace(slaac, address="2001:db8::1:2:3:4", flags=0x01)
    nic = replace(NIC, addresses=(leased, temporary, slaac))
    for file in disk.files(nic=nic).values():
        assert Path(file.path).parent in disk.networkd.directories
        disk.networkd.write(file.path, file.content)
    assert all(file.in_place for file in disk.files(nic=nic).values())
    for content in (disk.bond_file(), (disk.path("run/05-guestagent-bond0.network")).read_text()):
        assert content is not None
        assert given in content
