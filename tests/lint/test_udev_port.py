"""udev/guestagent-port on a made-up sysfs: the NICs that network managers must not configure."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from guestagent.guest.core.link import PENDING_GROUP
from tests.lint.tree import ROOT

HELPER = ROOT / "udev" / "guestagent-port"
MAC = "52:54:00:ab:cd:01"
OTHER_MAC = "52:54:00:ab:cd:02"
VIRTIO = "virtio/drivers/virtio_net"
E1000E = "pci/drivers/e1000e"
PCI = {
    "eth0": "0000:00:02.0",
    "eth0nsby": "0000:00:02.0",
    "eth1": "0000:00:03.0",
    "eth2": "0000:00:04.0",
    "ens7": "0000:00:05.0",
}
MARKED = "GUESTAGENT_PORT=1\n"
STANDBY = "GUESTAGENT_STANDBY=1\n"


class Sysfs:
    """As much of /sys as the helper reads, and a configuration beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.etc = root / "etc"
        self.net = root / "class" / "net"
        for driver in (VIRTIO, E1000E):
            (root / "bus" / driver).mkdir(parents=True)
        self.virtual("lo", "00:00:00:00:00:00")

    def virtual(self, name: str, mac: str, *, alias: str = "", group: int = 0) -> None:
        (self.net / name).mkdir(parents=True)
        (self.net / name / "netdev_group").write_text(f"{group}\n")
        (self.net / name / "address").write_text(f"{mac}\n")
        (self.net / name / "ifalias").write_text(f"{alias}\n" if alias else "")

    def nic(self, name: str, driver: str, mac: str = MAC, *, failover: bool = False) -> None:
        self.virtual(name, mac)
        device = self.root / "devices" / "pci0000:00" / PCI[name] / name
        device.mkdir(parents=True)
        (device / "driver").symlink_to(self.root / "bus" / driver)
        (device / "features").write_text("0" * 62 + ("1" if failover else "0") + "0\n")
        (self.net / name / "device").symlink_to(device)

    def join(self, port: str, master: str, *, permanent_mac: str = MAC) -> None:
        (self.net / port / "master").symlink_to(self.net / master)
        (self.net / port / "bonding_slave").mkdir()
        (self.net / port / "bonding_slave" / "perm_hwaddr").write_text(f"{permanent_mac}\n")

    def configure(self, name: str, text: str) -> None:
        path = self.etc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def ask(self, name: str) -> str:
        done = subprocess.run(
            [str(HELPER), name, str(self.root), str(self.etc)],
            check=True,
            capture_output=True,
            text=True,
        )
        assert done.stderr == ""
        return done.stdout


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    return Sysfs(tmp_path)


def test_the_vf_of_a_pair_is_marked_and_its_standby_is_not(sysfs: Sysfs) -> None:
    sysfs.nic("eth0", VIRTIO)
    sysfs.nic("eth1", E1000E)
    sysfs.nic("eth2", VIRTIO, OTHER_MAC)
    assert sysfs.ask("eth1") == MARKED
    assert sysfs.ask("eth0") == STANDBY, "told apart, and left to whoever configures it"
    assert sysfs.ask("eth2") == ""


def test_an_ordinary_nic_is_left_alone(sysfs: Sysfs) -> None:
    sysfs.nic("eth0", VIRTIO)
    sysfs.nic("eth1", E1000E, OTHER_MAC)
    assert sysfs.ask("eth0") == ""
    assert sysfs.ask("eth1") == ""
    assert sysfs.ask("lo") == ""
    assert sysfs.ask("gone") == ""


def test_a_vlan_of_the_same_mac_does_not_count(sysfs: Sysfs) -> None:
    sysfs.nic("eth0", VIRTIO)
    sysfs.nic("eth1", E1000E)
    sysfs.virtual("eth0.7", MAC)
    assert sysfs.ask("eth1") == MARKED
    assert sysfs.ask("eth0.7") == ""


def test_three_nics_of_one_mac_are_left_alone(sysfs: Sysfs) -> None:
    sysfs.nic("eth0", VIRTIO)
    sysfs.nic("eth1", E1000E)
    sysfs.nic("eth2", E1000E)
    assert sysfs.ask("eth1") == ""


def test_net_failover_keeps_its_pair(sysfs: Sysfs) -> None:
    sysfs.nic("eth0nsby", VIRTIO, failover=True)
    sysfs.nic("eth1", E1000E)
    assert sysfs.ask("eth1") == ""


def test_both_ports_of_our_bond_are_marked_whatever_their_address_now(sysfs: Sysfs) -> None:
    sysfs.nic("eth0", VIRTIO)
    sysfs.nic("eth1", E1000E, OTHER_MAC)
    sysfs.virtual("bond0", MAC, alias=f"guestagent:{MAC}")
    sysfs.join("eth0", "bond0")
    sysfs.join("eth1", "bond0")
    assert sysfs.ask("eth0") == MARKED
    assert sysfs.ask("eth1") == MARKED
    assert sysfs.ask("bond0") == ""


def test_both_ports_of_a_bond_that_is_still_being_made_are_marked(sysfs: Sysfs) -> None:
    sysfs.nic("eth0", VIRTIO)
    sysfs.nic("eth1", E1000E)
    sysfs.virtual("bond0", MAC, group=PENDING_GROUP)
    sysfs.join("eth1", "bond0")
    assert (sysfs.ask("eth0"), sysfs.ask("eth1")) == (STANDBY, MARKED)
    sysfs.join("eth0", "bond0")
    assert (sysfs.ask("eth0"), sysfs.ask("eth1")) == (MARKED, MARKED)


def test_a_vf_that_returns_is_marked_before_it_joins(sysfs: Sysfs) -> None:
    sysfs.nic("eth0", VIRTIO, OTHER_MAC)
    sysfs.virtual("bond0", MAC, alias=f"guestagent:{MAC}")
    sysfs.join("eth0", "bond0")
    sysfs.nic("ens7", E1000E)
    assert sysfs.ask("ens7") == MARKED


def test_a_bond_of_somebody_else_keeps_its_ports(sysfs: Sysfs) -> None:
    sysfs.nic("eth0", VIRTIO)
    sysfs.nic("eth1", E1000E)
    sysfs.virtual("bond0", MAC, alias="uplink")
    sysfs.join("eth0", "bond0")
    assert sysfs.ask("eth0") == ""
    assert sysfs.ask("eth1") == ""


@pytest.mark.parametrize("file", ["guestagent.toml", "guestagent.toml.d/50-local.toml"])
def test_an_excluded_pair_is_left_alone(sysfs: Sysfs, file: str) -> None:
    sysfs.nic("eth0", VIRTIO)
    sysfs.nic("eth1", E1000E)
    sysfs.configure(file, f'exclude = [\n  "{OTHER_MAC}", "{MAC.upper()}"]')
    assert sysfs.ask("eth1") == ""


def test_a_comment_excludes_nothing(sysfs: Sysfs) -> None:
    sysfs.nic("eth0", VIRTIO)
    sysfs.nic("eth1", E1000E)
    sysfs.configure("guestagent.toml", f'exclude = []  # not "{MAC}"\n')
    assert sysfs.ask("eth1") == MARKED


@pytest.mark.parametrize(
    "text",
    [
        'exclude = ["e1000e"]',
        "exclude = ['0000:00:03.0']",
        'bond = ["52:54:00:ab:cd:02"]',
        "bond = []",
        '[bond]\nnics = [\n  "0000:00:04.0",\n]\nmiimon-ms = 50',
    ],
)
def test_what_the_configuration_does_not_want_bonded_is_left_alone(
    sysfs: Sysfs, text: str
) -> None:
    sysfs.nic("eth0", VIRTIO)
    sysfs.nic("eth1", E1000E)
    sysfs.configure("guestagent.toml", text)
    assert sysfs.ask("eth1") == ""


@pytest.mark.parametrize(
    "text",
    [
        f'[pair."{MAC}"]\nbond-name = "lan0"',
        f'bond-name = "{MAC[:2]}%d"\nbond = "pairs"',
        f'bond = [ "{MAC.upper()}" ]',
        'bond = ["e1000e"]',
        "[bond]\nnics = ['0000:00:02.0']",
        '[bond]\nnics = "always"\n',
        f'exclude = ["{OTHER_MAC}", "sfc", "0000:00:03.1"]',
    ],
)
def test_what_the_configuration_wants_bonded_is_marked(sysfs: Sysfs, text: str) -> None:
    sysfs.nic("eth0", VIRTIO)
    sysfs.nic("eth1", E1000E)
    sysfs.configure("guestagent.toml", text)
    assert sysfs.ask("eth1") == MARKED


def test_a_third_nic_that_is_excluded_leaves_a_pair(sysfs: Sysfs) -> None:
    sysfs.nic("eth0", VIRTIO)
    sysfs.nic("eth1", E1000E)
    sysfs.nic("eth2", E1000E)
    sysfs.configure("guestagent.toml", 'exclude = ["0000:00:04.0"]')
    assert sysfs.ask("eth1") == MARKED
    assert sysfs.ask("eth2") == ""


def test_a_later_file_replaces_what_an_earlier_one_says(sysfs: Sysfs) -> None:
    sysfs.nic("eth0", VIRTIO)
    sysfs.nic("eth1", E1000E)
    sysfs.configure("guestagent.toml", f'exclude = ["{MAC}"]\nbond = []\n')
    sysfs.configure("guestagent.toml.d/50.toml", 'exclude = []\nbond = "pairs"\n')
    assert sysfs.ask("eth1") == MARKED
