"""NetworkManager: which profile a NIC has, and what the bond gets of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from guestagent.errors import DeadlineError
from guestagent.guest.core.addressing import Address
from guestagent.guest.core.link import Link
from guestagent.guest.core.snapshot import StackFile
from guestagent.guest.stacks.base import Nic
from guestagent.guest.stacks.ini import parse, value_of
from guestagent.guest.stacks.networkmanager import bond_profile, busctl, service, stack
from guestagent.guest.stacks.networkmanager.service import Service
from guestagent.guest.stacks.networkmanager.stack import NetworkManager

MAC = "52:54:00:00:00:01"
NIC = Link(ifindex=2, name="enp1s0", address=MAC, permanent_address=MAC, driver="virtio_net")
ETC = "etc/NetworkManager/system-connections"
RUN = "run/NetworkManager/system-connections"
SLAAC = Address(family=10, address="2001:db8::67bc:4fcb:846b:e130", prefix_length=64, valid_s=100)


@dataclass
class Disk:
    """A guest's files under a temporary root."""

    root: Path

    def put(self, path: str, content: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    @property
    def manager(self) -> NetworkManager:
        return NetworkManager(self.root)

    def files(self, nic: Link = NIC) -> dict[str, StackFile]:
        found = self.manager.files(Nic(bond="bond0", link=nic), owned=True)
        return {Path(file.path).name: file for file in found}

    def has_record(self) -> bool:
        return (self.root / "run/guestagent/networkmanager/bond0.nmconnection").exists()

    def of_bond(self, section: str, key: str, nic: Link = NIC) -> str | None:
        return value_of(parse(self.files(nic)["bond0.nmconnection"].content), section, key)


@dataclass
class FakeNmcli:
    """NetworkManager as nmcli shows it: the state of a NIC, and the flags that were set."""

    state: str
    flags: dict[str, str] = field(default_factory=dict)
    flapped: list[str] = field(default_factory=list)
    activated: bool = False

    def run_command(self, *command: str, **_: object) -> str:
        if command[:3] == ("nmcli", "device", "set"):
            for name, value in zip(command[4::2], command[5::2], strict=True):
                self.flags[name] = value
                by_itself = self.flags.get("autoconnect", "yes") == "yes"
                self.activated |= by_itself and not self.state.startswith("100")
        asked = command[2] if command[1] == "-g" else ""
        if asked == "GENERAL.AUTOCONNECT":
            return f"{self.flags.get('autoconnect', 'yes')}\n"
        return f"{self.state}\n"

    def flap(self, name: str) -> None:
        self.flapped.append(name)
        self.state = "100 (connected)"


def patient(slept: list[float]) -> Service:
    """Return a service whose clock runs only while it sleeps."""
    return Service(clock=lambda: sum(slept), sleep=slept.append)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def profile(*lines: str, name: str = "lan") -> str:
    head = ["[connection]", f"id={name}", f"uuid={name}", "type=ethernet"]
    return "\n".join([*head, *lines]) + "\n"


def test_a_nic_without_a_profile_gives_the_bond_what_networkmanager_gives_such_a_nic(
    disk: Disk,
) -> None:
    assert disk.of_bond("connection", "type") == "bond"
    assert disk.of_bond("connection", "interface-name") == "bond0"
    assert disk.of_bond("ipv4", "method") == "auto"
    assert disk.of_bond("ipv6", "method") == "auto"


def test_a_profile_that_networkmanager_has_generated_is_ignored(disk: Disk) -> None:
    before = disk.files()["bond0.nmconnection"].content
    made_up = "[ipv4]\nmethod=disabled\n[.nmmeta]\nnm-generated=true"
    disk.put(f"{RUN}/Wired connection 1.nmconnection", profile(made_up))
    assert disk.files()["bond0.nmconnection"].content == before


def test_the_bond_gets_the_settings_and_no_key_that_names_the_nic(disk: Disk) -> None:
    disk.put(
        f"{ETC}/lan.nmconnection",
        profile(
            "interface-name=enp1s0",
            "zone=home",
            "[ethernet]",
            f"mac-address={MAC.upper()}",
            "mtu=1400",
            "[ipv4]",
            "method=manual",
            "address1=192.0.2.10/24,192.0.2.1",
            "route1=198.51.100.0/24,192.0.2.7",
        ),
    )
    assert disk.of_bond("connection", "interface-name") == "bond0"
    assert disk.of_bond("connection", "zone") == "home"
    assert disk.of_bond("connection", "uuid") != "lan"
    assert disk.of_bond("ethernet", "mac-address") is None
    assert disk.of_bond("ethernet", "mtu") == "1400"
    assert disk.of_bond("ipv4", "address1") == "192.0.2.10/24,192.0.2.1"
    assert disk.of_bond("ipv4", "route1") == "198.51.100.0/24,192.0.2.7"


@pytest.mark.parametrize(
    "lines",
    [
        ("interface-name=eth9",),
        ("[ethernet]", "mac-address=52:54:00:00:00:99"),
        ("autoconnect=false",),
        ("[match]", "interface-name=eth*;"),
        ("[match]", "driver=e1000e;"),
        ("[match]", "interface-name=en*;!enp1*;"),
    ],
)
def test_a_profile_that_does_not_fit_the_nic_is_not_taken(
    disk: Disk, lines: tuple[str, ...]
) -> None:
    disk.put(f"{ETC}/other.nmconnection", profile(*lines, "[ipv4]", "method=manual"))
    assert disk.of_bond("ipv4", "method") == "auto"


def test_of_several_profiles_priority_decides_and_then_the_latest_use(disk: Disk) -> None:
    for name in ("old", "new", "low"):
        last = "[ipv4]\nmethod=auto\ndhcp-hostname=" + name
        priority = "autoconnect-priority=-1" if name == "low" else "autoconnect-priority=0"
        disk.put(f"{ETC}/{name}.nmconnection", profile(priority, last, name=name))
    disk.put("var/lib/NetworkManager/timestamps", "[timestamps]\nold=100\nnew=200\nlow=300\n")
    assert disk.of_bond("ipv4", "dhcp-hostname") == "new"


def test_a_nic_that_is_a_port_of_something_gives_the_bond_nothing(disk: Disk) -> None:
    disk.put(f"{ETC}/lan.nmconnection", profile("controller=br0", "port-type=bridge"))
    assert disk.files() == {}


def test_the_bond_is_the_dhcp_client_that_the_nic_was(disk: Disk) -> None:
    assert disk.of_bond("ipv4", "dhcp-iaid") == str(0x56504D98)
    assert disk.of_bond("ipv6", "dhcp-iaid") == str(0x56504D98)


def test_the_routes_of_the_bond_rank_as_those_of_the_nic_did(disk: Disk) -> None:
    assert disk.of_bond("ipv4", "route-metric") == "100"
    disk.put(f"{ETC}/lan.nmconnection", profile("[ipv4]", "route-metric=7"))
    assert disk.of_bond("ipv4", "route-metric") == "7"


def test_a_stable_privacy_address_is_remembered_for_boots_with_the_bond_first(
    disk: Disk,
) -> None:
    used = replace(NIC, addresses=(SLAAC,))
    for file in disk.files(used).values():
        disk.manager.write(file.path, file.content)
    assert disk.of_bond("ipv6", "token") == "::67bc:4fcb:846b:e130"
    assert disk.of_bond("ipv6", "addr-gen-mode") == "eui64"
    assert all(file.in_place for file in disk.files().values())


def test_an_address_from_the_mac_needs_no_token(disk: Disk) -> None:
    disk.put(f"{ETC}/lan.nmconnection", profile("[ipv6]", "method=auto", "addr-gen-mode=eui64"))
    assert disk.of_bond("ipv6", "token", replace(NIC, addresses=(SLAAC,))) is None


def test_files_for_networkmanager_are_readable_by_root_alone(disk: Disk) -> None:
    for file in disk.files().values():
        disk.manager.write(file.path, file.content)
        assert Path(file.path).stat().st_mode & 0o777 == 0o600


def test_before_it_starts_its_state_file_names_the_profile_of_the_bond(
    disk: Disk,
) -> None:
    disk.put("sys/class/net/bond0/ifindex", "7\n")
    for file in disk.files().values():
        disk.manager.write(file.path, file.content)
    disk.manager.reload("bond0")
    given = (disk.root / RUN / "guestagent-bond0.nmconnection").read_text()
    state = (disk.root / "run/NetworkManager/devices/7").read_text()
    assert value_of(parse(given), "connection", "uuid") == value_of(
        parse(state), "device", "connection-uuid"
    )
    disk.manager.give_back("bond0")
    assert not list((disk.root / RUN).iterdir())
    assert not disk.has_record()


def test_the_wait_until_networkmanager_notices_a_bond_is_bounded(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.put("sys/class/net/bond0/ifindex", "7\n")
    disk.put("sys/fs/cgroup/system.slice/NetworkManager.service/pids.current", "1\n")
    for file in disk.files().values():
        disk.manager.write(file.path, file.content)
    monkeypatch.setattr(service, "run_command", lambda *_, **__: "20 (unavailable)\n")
    slept: list[float] = []
    manager = NetworkManager(disk.root, service=patient(slept))
    with pytest.raises(DeadlineError, match="bond0: its state is 20"):
        manager.reload("bond0")
    assert service.NOTICE_TIMEOUT_S <= sum(slept) < service.NOTICE_TIMEOUT_S + 1


def test_the_profile_of_a_running_bond_keeps_its_identity_and_its_options(disk: Disk) -> None:
    made_up = (
        "[connection]\nid=bond0\nuuid=found\ntype=bond\ninterface-name=bond0\n"
        "[bond]\nmode=active-backup\nfail_over_mac=active\nall_slaves_active=1\nprimary=enp2s0\n"
        "[ipv4]\nmethod=disabled\n[.nmmeta]\nexternal=true\n"
    )
    sections = parse(bond_profile.merged(made_up, disk.files()["bond0.nmconnection"].content))
    assert value_of(sections, "connection", "uuid") == "found"
    assert value_of(sections, "bond", "fail_over_mac") == "active"
    assert value_of(sections, "bond", "primary") is None
    assert value_of(sections, "bond", "all_slaves_active") is None
    assert value_of(sections, "ipv4", "method") == "auto"
    assert value_of(sections, ".nmmeta", "external") is None


def test_the_nic_gets_back_what_its_bond_has_to_the_token(disk: Disk) -> None:
    given = disk.files(replace(NIC, addresses=(SLAAC,)))["bond0.nmconnection"].content
    sections = parse(bond_profile.for_nic(given, "enp1s0"))
    assert value_of(sections, "connection", "type") == "ethernet"
    assert value_of(sections, "connection", "interface-name") == "enp1s0"
    assert value_of(sections, "connection", "uuid") != value_of(parse(given), "connection", "uuid")
    assert value_of(sections, "ipv4", "dhcp-iaid") == str(0x56504D98)
    assert value_of(sections, "ipv6", "token") == "::67bc:4fcb:846b:e130"
    assert "bond" not in {name for name, _ in sections}


def test_a_failed_return_of_the_nic_can_be_repeated(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.put("sys/fs/cgroup/system.slice/NetworkManager.service/pids.current", "1\n")
    for file in disk.files().values():
        disk.manager.write(file.path, file.content)
    nmcli = FakeNmcli(state="20 (unavailable)")
    monkeypatch.setattr(service, "run_command", nmcli.run_command)
    monkeypatch.setattr(service, "flap", nmcli.flapped.append)
    slept: list[float] = []
    manager = NetworkManager(disk.root, service=patient(slept))
    with pytest.raises(DeadlineError, match="enp1s0: its state is 20"):
        manager.give_back("bond0")
    nmcli.state = "100 (connected)"
    manager.give_back("bond0")  # it has configured the NIC itself
    assert not disk.has_record()


@pytest.mark.parametrize("autoconnect", ["yes", "no"])
def test_networkmanager_finds_a_port_as_it_is_and_activates_nothing_there(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, autoconnect: str
) -> None:
    disk.put("sys/class/net/bond0/ifindex", "7\n")
    disk.put("sys/fs/cgroup/system.slice/NetworkManager.service/pids.current", "1\n")
    monkeypatch.setattr(stack, "standby_of", lambda *_: "enp1s0")
    for file in disk.files().values():
        disk.manager.write(file.path, file.content)
    nmcli = FakeNmcli(state="30 (disconnected)", flags={"autoconnect": autoconnect})
    monkeypatch.setattr(service, "run_command", nmcli.run_command)
    monkeypatch.setattr(service, "flap", lambda _: None)
    slept: list[float] = []
    with pytest.raises(DeadlineError):  # it has not looked: this is tried again
        NetworkManager(disk.root, service=patient(slept)).reload("bond0")
    monkeypatch.setattr(service, "flap", nmcli.flap)  # 1.42 looks at a link that changes
    disk.manager.reload("bond0")
    assert nmcli.flapped == ["enp1s0"]
    assert nmcli.flags == {"autoconnect": autoconnect, "managed": "yes"}, "as the user has it"
    assert not nmcli.activated


def test_the_profile_of_a_running_bond_says_nothing_of_ethernet(disk: Disk) -> None:
    # The bond that NetworkManager found has no such settings: Reapply refuses any, an MTU too.
    disk.put(f"{ETC}/lan.nmconnection", profile("[ethernet]", "mtu=1400"))
    for_boot = disk.files()["bond0.nmconnection"].content
    sections = parse(bond_profile.merged("[connection]\nuuid=found\n", for_boot))
    assert "ethernet" not in {name for name, _ in sections}


def test_a_bond_of_a_nic_without_ethernet_settings_gets_no_section_of_them(disk: Disk) -> None:
    sections = parse(disk.files()["bond0.nmconnection"].content)
    assert "ethernet" not in {name for name, _ in sections}


def test_only_the_addressing_of_a_running_bond_is_changed() -> None:
    applied = {"bond": {"options": 1}, "ipv4": {"method": 0}, "connection": {"id": 2}}
    wanted = {"bond": {"options": 9}, "ipv4": {"method": 3}, "connection": {"id": 8, "zone": 4}}
    assert bond_profile.applied_settings(applied, wanted) == {
        "bond": {"options": 1},
        "ipv4": {"method": 3},
        "connection": {"id": 2, "zone": 4},
    }


def test_the_nic_of_a_bond_is_known_from_its_profile(disk: Disk) -> None:
    assert bond_profile.nic_of(disk.files()["bond0.nmconnection"].content) == "enp1s0"


def test_a_value_of_the_bus_is_written_out_by_its_signature() -> None:
    settings = {
        "ipv4": {
            "method": {"type": "s", "data": "auto"},
            "addresses": {"type": "aau", "data": [[1, 2, 3]]},
            "address-data": {"type": "aa{sv}", "data": [{"prefix": {"type": "u", "data": 24}}]},
        },
        "ipv6": {"routes": {"type": "a(ayuayu)", "data": [[[1, 2], 64, [], 0]]}},
        "user": {"data": {"type": "a{ss}", "data": {"a": "b"}}, "on": {"type": "b", "data": True}},
    }
    assert list(busctl.words("a{sa{sv}}", settings)) == [
        *("3", "ipv4", "3", "method", "s", "auto"),
        *("addresses", "aau", "1", "3", "1", "2", "3"),
        *("address-data", "aa{sv}", "1", "1", "prefix", "u", "24"),
        *("ipv6", "1", "routes", "a(ayuayu)", "1", "2", "1", "2", "64", "0", "0"),
        *("user", "2", "data", "a{ss}", "1", "a", "b", "on", "b", "true"),
    ]
