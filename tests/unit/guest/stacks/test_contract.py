"""Every network stack keeps the contract: the real ones on a directory tree, and two others."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from guestagent.guest.stacks.base import NetworkStack, Nic, Strength
from guestagent.guest.stacks.ifupdown.stack import Ifupdown
from guestagent.guest.stacks.networkd.stack import Networkd
from guestagent.guest.stacks.networkmanager.stack import NetworkManager
from tests.contract.example_stack import Example
from tests.contract.network_stack import CLAIMS, Ground
from tests.fakes.system import FakeStack


@dataclass
class TreeGround:
    """A guest's files under a temporary root, and the commands that its stack has run."""

    root: Path
    commands: list[tuple[str, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.install()

    def put(self, path: str, content: str = "") -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    def disk(self) -> Mapping[str, str]:
        files = (path for path in self.root.rglob("*") if path.is_file())
        return {str(path): path.read_text() for path in files}

    def install(self) -> None:
        """Install the program of the stack."""

    def occupy(self, nic: Nic) -> str | None:
        return None

    def run_unit(self, name: str) -> bool:
        self.put(f"sys/fs/cgroup/system.slice/{name}/pids.current", "1\n")
        return True


class NetworkdGround(TreeGround):
    def stack(self) -> NetworkStack:
        return Networkd(self.root)

    def configure(self, nic: Nic) -> None:
        match = f"[Match]\nName={nic.link.name}\n[Network]\nDHCP=yes\n"
        self.put(f"etc/systemd/network/50-{nic.link.name}.network", match)

    def occupy(self, nic: Nic) -> str | None:
        path = "etc/systemd/network/50-port.network"
        self.put(path, f"[Match]\nName={nic.link.name}\n[Network]\nBond=br0\n")
        return str(self.root / path)

    def start(self, nic: Nic) -> bool:
        return self.run_unit("systemd-networkd.service")


class NetworkManagerGround(TreeGround):
    def install(self) -> None:
        self.put("usr/sbin/NetworkManager")

    def stack(self) -> NetworkStack:
        return NetworkManager(self.root)

    def configure(self, nic: Nic) -> None:
        self.put(f"run/NetworkManager/devices/{nic.link.ifindex}", "[device]\nmanaged=true\n")

    def occupy(self, nic: Nic) -> str | None:
        path = "etc/NetworkManager/system-connections/port.nmconnection"
        name = f"interface-name={nic.link.name}"
        self.put(path, f"[connection]\ntype=ethernet\n{name}\ncontroller=br0\n")
        return str(self.root / path)

    def start(self, nic: Nic) -> bool:
        self.put(f"sys/class/net/{nic.bond}/ifindex", "7\n")
        return self.run_unit("NetworkManager.service")


class IfupdownGround(TreeGround):
    def install(self) -> None:
        self.put("usr/sbin/ifup")

    def stack(self) -> NetworkStack:
        return Ifupdown(self.root)

    def configure(self, nic: Nic) -> None:
        stanza = f"auto {nic.link.name}\niface {nic.link.name} inet dhcp\n"
        self.put(f"etc/network/interfaces.d/{nic.link.name}", stanza)
        self.put("etc/network/interfaces", "source interfaces.d/*\n")

    def occupy(self, nic: Nic) -> str | None:
        path = "etc/network/interfaces"
        self.put(path, f"iface br0 inet dhcp\n  bridge_ports {nic.link.name}\n")
        return str(self.root / path)

    def start(self, nic: Nic) -> bool:
        self.put("run/network/ifstate", f"{nic.link.name}={nic.link.name}\n")
        port = self.root / f"sys/class/net/{nic.bond}/lower_{nic.link.name}"
        (port / "device").mkdir(parents=True)
        (self.root / "drivers/virtio_net").mkdir(parents=True)
        (port / "device/driver").symlink_to(self.root / "drivers/virtio_net")
        return True


class ExampleGround(TreeGround):
    def stack(self) -> NetworkStack:
        return Example(self.root)

    def configure(self, nic: Nic) -> None:
        self.put(f"etc/example/{nic.link.name}", "dhcp\n")

    def start(self, nic: Nic) -> bool:
        return False


class FakeGround(TreeGround):
    def install(self) -> None:
        self.fake = FakeStack(strengths={})

    def stack(self) -> NetworkStack:
        return self.fake

    def configure(self, nic: Nic) -> None:
        self.fake.strengths = {**(self.fake.strengths or {}), nic.link.name: Strength.CONFIGURED}

    def occupy(self, nic: Nic) -> str | None:
        self.fake.conflicts[nic.link.name] = "is a port of br0 in /etc/fake"
        return "/etc/fake"

    def start(self, nic: Nic) -> bool:
        return False

    def disk(self) -> Mapping[str, str]:
        return dict(self.fake.disk)


GROUNDS: dict[str, Callable[[Path], Ground]] = {
    "networkd": NetworkdGround,
    "networkmanager": NetworkManagerGround,
    "ifupdown": IfupdownGround,
    "example": ExampleGround,
    "fake": FakeGround,
}


@pytest.mark.parametrize("stack", GROUNDS)
@pytest.mark.parametrize("name", CLAIMS)
def test_the_stack_keeps_to(
    name: str, stack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = GROUNDS[stack](tmp_path)

    def run(command: tuple[str, ...], **_: object) -> subprocess.CompletedProcess[str]:
        here.commands.append(command)
        return subprocess.CompletedProcess(command, 0, stdout="100 (connected)\n", stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    CLAIMS[name](here)
