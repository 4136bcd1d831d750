"""packaging/systemd/early-needed on a made-up system: when a boot has to wait for the agent."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.lint.tree import ROOT

SCRIPT = ROOT / "packaging" / "systemd" / "early-needed"
MAC, OTHER_MAC = "52:54:00:ab:cd:01", "52:54:00:ab:cd:02"


class System:
    """As much of /sys, /etc and /var as the script reads; a late NIC comes while udev settles."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("sys/class/net", "sys/bus/pci/devices", "bin"):
            (root / name).mkdir(parents=True)
        self._udevadm("")
        (root / "sys/class/net/lo").mkdir()
        (root / "sys/class/net/lo/address").write_text("00:00:00:00:00:00\n")

    def nic(self, name: str, mac: str, *, virtio: bool = False) -> None:
        device = self._adapter(name) / ("virtio0" if virtio else "")
        (device / "net" / name).mkdir(parents=True)
        link = self.root / "sys/class/net" / name
        link.mkdir()
        (link / "address").write_text(f"{mac}\n")
        (link / "device").symlink_to(device)

    def late_nic(self, name: str, mac: str) -> None:
        device, link = self._adapter(name), self.root / "sys/class/net" / name
        self._udevadm(
            f"mkdir -p {device}/net/{name} {link}; echo {mac} >{link}/address;"
            f" ln -s {device} {link}/device"
        )

    def comes_before_the_queue_ends(self, name: str, mac: str) -> None:
        self.late_nic(name, mac)
        path = self.root / "bin" / "udevadm"
        path.write_text(f"{path.read_text()}echo asked >>{self.root}/asked; exit 1\n")

    def asked(self) -> int:
        """Return how often udev was asked for the end of its queue."""
        path = self.root / "asked"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def never_settles(self) -> None:
        self._adapter("0000:02:00.0")
        self._udevadm("exit 1")

    def has_no_driver(self) -> None:
        self._adapter("0000:02:00.0")

    def needs_early(self) -> bool:
        arguments = (self.root / "sys", self.root / "etc", self.root / "state")
        done = subprocess.run(
            [SCRIPT, *arguments],
            check=False,
            capture_output=True,
            text=True,
            env={"PATH": f"{self.root / 'bin'}:{os.environ['PATH']}"},
        )
        assert done.stderr == ""
        return done.returncode == 0

    def _adapter(self, name: str) -> Path:
        device = self.root / "sys/bus/pci/devices" / name
        device.mkdir()
        (device / "class").write_text("0x020000\n")
        return device

    def _udevadm(self, body: str) -> None:
        path = self.root / "bin" / "udevadm"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


def test_a_single_nic_and_two_strangers_need_nothing(system: System) -> None:
    assert not system.needs_early()
    system.nic("ens1", MAC, virtio=True)
    assert not system.needs_early()
    system.nic("ens2", OTHER_MAC)
    assert not system.needs_early()


def test_a_pair_is_seen(system: System) -> None:
    system.nic("ens1", MAC, virtio=True)
    system.nic("ens2", MAC)
    assert system.needs_early()


def test_a_vf_whose_driver_is_still_loading_is_waited_for(system: System) -> None:
    system.nic("ens1", MAC, virtio=True)
    system.late_nic("ens2", MAC)
    assert system.needs_early()


def test_nothing_is_waited_for_when_every_adapter_has_its_nic(system: System) -> None:
    system.nic("ens1", MAC, virtio=True)
    system.comes_before_the_queue_ends("ens2", OTHER_MAC)
    assert not system.needs_early()
    assert system.asked() == 1, "the queue has not ended, and need not"


def test_an_adapter_without_a_driver_is_none(system: System) -> None:
    system.nic("ens1", MAC, virtio=True)
    system.has_no_driver()
    assert not system.needs_early()


def test_a_driver_that_takes_longer_is_left_to_the_agent(system: System) -> None:
    system.nic("ens1", MAC, virtio=True)
    system.never_settles()
    assert system.needs_early()


@pytest.mark.parametrize(
    "file", ["state/pairs.json", "etc/guestagent.toml", "etc/guestagent.toml.d/site.toml"]
)
def test_what_was_seen_before_and_what_is_configured_is_left_to_the_agent(
    system: System, file: str
) -> None:
    path = system.root / file
    path.parent.mkdir(parents=True)
    path.write_text("")
    assert system.needs_early()
