"""Values that the doctor reads from files and from the output of commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from guestagent.guest.core.link import Link
from guestagent.guest.doctor.facts import CloudInitState
from guestagent.guest.doctor.gather import probes
from guestagent.guest.doctor.gather.competing_stacks import competing_stacks

MAC = "52:54:00:00:00:01"


def put(root: Path, path: str, text: str = "") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_cloud_init_is_read_from_its_own_files(tmp_path: Path) -> None:
    assert probes.cloud_init(tmp_path) is CloudInitState.ABSENT
    put(tmp_path, "usr/bin/cloud-init")
    assert probes.cloud_init(tmp_path) is CloudInitState.PENDING
    put(tmp_path, "etc/cloud/cloud.cfg.d/99.cfg", "network: {config: disabled}\n")
    assert probes.cloud_init(tmp_path) is CloudInitState.ABSENT
    put(tmp_path, "etc/cloud/cloud.cfg.d/99.cfg", "#network: {config: disabled}\n")
    put(tmp_path, "var/lib/cloud/instance/boot-finished")
    assert probes.cloud_init(tmp_path) is CloudInitState.DONE
    put(tmp_path, "run/cloud-init/status.json", '{"errors": ["duplicate mac found! both …"]}')
    assert probes.cloud_init(tmp_path) is CloudInitState.DUPLICATE_MAC
    put(tmp_path, "run/cloud-init/disabled")
    assert probes.cloud_init(tmp_path) is CloudInitState.ABSENT


def test_units_are_read_from_what_systemctl_shows() -> None:
    text = (
        "Id=a.service\nLoadState=loaded\nActiveState=failed\nUnitFileState=disabled\n"
        "Result=watchdog\n\nId=b.service\nLoadState=not-found\nActiveState=inactive\n"
        "UnitFileState=\nResult=success\n"
    )
    first, second = probes.parse_units(text)
    assert (first.installed, first.enabled, first.active) == (True, False, "failed")
    assert (first.result, second.installed) == ("watchdog", False)


def test_a_nics_settings_are_read_from_sysfs_and_procfs(tmp_path: Path) -> None:
    put(tmp_path, "sys/class/net/ens3/addr_assign_type", "1\n")
    put(tmp_path, "sys/class/net/ens3/statistics/rx_packets", "7\n")
    put(tmp_path, "proc/sys/net/ipv4/conf/all/rp_filter", "2")
    put(tmp_path, "sys/class/virtio-ports/vport2p1/name", "org.guestagent.0\n")
    assert probes.made_up_mac("ens3", tmp_path)
    assert probes.packets("ens3", "rx", tmp_path) == 7
    assert probes.all_are_filtered(tmp_path)
    assert probes.has_channel(root=tmp_path)
    put(tmp_path, "proc/sys/net/ipv4/conf/all/rp_filter", "0")
    assert not probes.all_are_filtered(tmp_path)


VF = Link(ifindex=3, name="ens3", address=MAC, permanent_address=MAC, driver="igbvf")
MARKED = {"GUESTAGENT_PORT": "1", "ID_NET_MANAGED_BY": "unmanaged", "NM_UNMANAGED": "1"}


def test_networkd_claims_a_nic_by_the_first_file_that_matches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "guestagent.guest.doctor.gather.competing_stacks.networkd_version", lambda: 252
    )
    etc = "etc/systemd/network"
    put(tmp_path, f"{etc}/50-all.network", "[Match]\nName=en*\n[Network]\nDHCP=yes\n")
    assert list(competing_stacks(VF, MARKED, tmp_path)) == [], "networkd does not run"
    put(tmp_path, "run/systemd/netif/state")
    (stack,) = competing_stacks(VF, MARKED, tmp_path)
    assert (stack.stack, stack.kept_off) == ("systemd-networkd", False)
    assert stack.source.endswith("/50-all.network")
    monkeypatch.setattr(
        "guestagent.guest.doctor.gather.competing_stacks.networkd_version", lambda: 255
    )
    (stack,) = competing_stacks(VF, MARKED, tmp_path)
    assert stack.kept_off
    (stack,) = competing_stacks(VF, {}, tmp_path)
    assert not stack.kept_off
    put(
        tmp_path,
        "usr/lib/systemd/network/05-guestagent-port.network",
        "[Match]\nProperty=GUESTAGENT_PORT=1\n[Link]\nUnmanaged=yes\n",
    )
    assert list(competing_stacks(VF, MARKED, tmp_path)) == []


def test_networkmanager_claims_what_is_not_marked_unmanaged(tmp_path: Path) -> None:
    (tmp_path / "run/NetworkManager/devices").mkdir(parents=True)
    assert list(competing_stacks(VF, MARKED, tmp_path)) == []
    (stack,) = competing_stacks(VF, {}, tmp_path)
    assert (stack.stack, stack.kept_off) == ("NetworkManager", False)


@pytest.mark.parametrize("line", ["auto ens3", "allow-hotplug /en*", "iface ens3 inet dhcp"])
def test_ifupdown_claims_what_it_names(tmp_path: Path, line: str) -> None:
    put(tmp_path, "usr/sbin/ifup")
    put(tmp_path, "etc/network/interfaces", "auto lo ens2\niface ens2 inet dhcp\n# auto ens3\n")
    assert list(competing_stacks(VF, MARKED, tmp_path)) == []
    put(tmp_path, "etc/network/interfaces.d/vf", f"{line}\n")
    (stack,) = competing_stacks(VF, MARKED, tmp_path)
    assert (stack.stack, stack.source.endswith("interfaces.d/vf")) == ("ifupdown", True)
