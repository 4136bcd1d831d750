"""systemd-networkd: which file configures a NIC, and what the bond gets of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from guestagent.guest.model import Link, StackFile
from guestagent.guest.stacks.networkd import Networkd

MAC = "52:54:00:00:00:01"
NIC = Link(
    ifindex=2,
    name="ens3",
    address=MAC,
    permanent_address=MAC,
    driver="virtio_net",
    bus_address="0000:01:00.0",
)


@dataclass
class Disk:
    """The directories of one guest under a temporary root."""

    root: Path

    def put(self, path: str, content: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    @property
    def networkd(self) -> Networkd:
        dirs = tuple(self.root / name for name in ("etc", "run", "usr"))
        return Networkd(dirs=dirs, runtime=self.root / "run", state=self.root / "absent")

    def files(self, properties: Mapping[str, str] | None = None) -> dict[str, StackFile]:
        found = self.networkd.files(
            bond="bond0", mac=MAC, standby=NIC, properties=lambda: properties or {}
        )
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
        files = networkd.files(bond="bond0", mac=MAC, standby=NIC, properties=dict)
        return files[-1].content

    assert "DHCP=yes" in content()
    disk.put("etc/50-lan.network", "[Match]\nName=en*\n\n[Network]\nDHCP=ipv4\n")
    assert "DHCP=ipv4" in content()


def test_the_bond_gets_the_nics_own_file_with_another_match(disk: Disk) -> None:
    disk.put("etc/50-lan.network", "[Match]\nName=en*\n\n[Network]\nDHCP=yes\n\n[DHCPv4]\nX=1\n")
    content = disk.bond_file()
    assert content is not None
    assert content.splitlines()[1:] == [
        "[Match]",
        "Name=bond0",
        "Kind=bond",
        "",
        "[Network]",
        "DHCP=yes",
        "",
        "[DHCPv4]",
        "X=1",
    ]


def test_the_ports_are_declared_unmanaged(disk: Disk) -> None:
    content = disk.files()["05-guestagent-bond0-ports.network"].content
    assert f"PermanentMACAddress={MAC}\nKind=!bond\n" in content
    assert content.endswith("[Link]\nUnmanaged=yes\n")


def test_a_file_that_matches_the_bond_itself_is_left_to_the_user(disk: Disk) -> None:
    disk.put("etc/50-lan.network", f"[Match]\nMACAddress={MAC.upper()}\n[Network]\nDHCP=yes\n")
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
        ("Name=en*\nDriver=e1000e", False),
        ("Virtualization=kvm", False),
    ],
)
def test_match_sections_are_judged_as_networkd_does(disk: Disk, match: str, matches: bool) -> None:
    disk.put("etc/50-lan.network", f"[Match]\n{match}\n[Network]\nDHCP=yes\n")
    # A bond of this name would match some of these too; the user's file then counts.
    disk.put("etc/40-bond.network", "[Match]\nName=absent\n[Network]\nDHCP=no\n")
    taken = "!en" in match or "!eth" in match or "Property=!" in match
    properties = {"ID_PATH": "pci-0000:01:00.0", "COLOUR": "blue"}
    assert (disk.bond_file(properties) is not None) == (matches and not taken)


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
    disk.networkd.remove("bond0")
    assert [path.name for path in (disk.root / "run").iterdir()] == ["05-guestagent-bond1.network"]
