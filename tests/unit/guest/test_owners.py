"""Whose matter a NIC is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from guestagent.guest.model import Link
from guestagent.guest.stacks.ifupdown import Ifupdown
from guestagent.guest.stacks.networkd import Networkd
from guestagent.guest.stacks.networkmanager import NetworkManager
from guestagent.guest.stacks.owners import Owners

MAC = "52:54:00:00:00:01"
NIC = Link(ifindex=2, name="ens3", address=MAC, permanent_address=MAC, driver="virtio_net")


@dataclass
class System:
    """A guest's files under a temporary root."""

    root: Path

    def put(self, path: str, content: str = "") -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    @property
    def owners(self) -> Owners:
        return Owners(
            networkd=Networkd(
                dirs=(self.root / "etc/systemd/network",),
                runtime=self.root / "run/systemd/network",
                root=self.root,
            ),
            networkmanager=NetworkManager(self.root),
            ifupdown=Ifupdown(self.root),
        )

    def told(self) -> set[str]:
        """Return the directories in which something is written, below the root."""
        files = self.owners.files(bond="bond0", mac=MAC, standby=NIC, properties=dict)
        return {str(Path(file.path).parent.relative_to(self.root)) for file in files}


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


NETWORKD = {"run/systemd/network"}
MANAGER = NETWORKD | {"run/guestagent/networkmanager"}


def test_with_networkmanager_a_nic_that_nobody_else_configures_is_its(system: System) -> None:
    system.put("usr/sbin/NetworkManager")
    assert system.told() == MANAGER


def test_without_any_stack_only_the_ports_are_declared_off_limits(system: System) -> None:
    assert system.told() == NETWORKD


def test_a_nic_of_networkd_is_not_networkmanagers(system: System) -> None:
    system.put("usr/sbin/NetworkManager")
    system.put("etc/systemd/network/50-lan.network", "[Match]\nName=en*\n[Network]\nDHCP=yes\n")
    assert system.told() == NETWORKD


@pytest.mark.parametrize(
    "interfaces",
    [
        "auto ens3\niface ens3 inet dhcp\n",
        "source /etc/network/interfaces.d/*\n",
        "source-directory interfaces.d\n",
    ],
)
def test_a_nic_of_ifupdown_is_not_networkmanagers(system: System, interfaces: str) -> None:
    system.put("usr/sbin/NetworkManager")
    system.put("usr/sbin/ifup")
    system.put("etc/network/interfaces", interfaces)
    system.put("etc/network/interfaces.d/lan", "iface ens3 inet dhcp\n")
    assert system.told() == NETWORKD


@pytest.mark.parametrize(("word", "told"), [("true", MANAGER), ("false", NETWORKD)])
def test_networkmanagers_own_word_on_a_nic_counts(
    system: System, word: str, told: set[str]
) -> None:
    system.put("usr/sbin/NetworkManager")
    system.put("run/NetworkManager/devices/2", f"[device]\nmanaged={word}\n")
    assert system.told() == told


def test_what_was_told_once_is_kept_although_the_nic_is_now_left_alone(system: System) -> None:
    system.put("usr/sbin/NetworkManager")
    for file in system.owners.files(bond="bond0", mac=MAC, standby=NIC, properties=dict):
        system.owners.write(file.path, file.content)
    system.put("run/NetworkManager/devices/2", "[device]\nmanaged=false\n")
    assert system.told() == MANAGER
    system.owners.remove("bond0")
    assert system.told() == NETWORKD
