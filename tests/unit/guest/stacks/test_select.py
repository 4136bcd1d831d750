"""The owner of a NIC among the network stacks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from guestagent.errors import InternalError, PeerError
from guestagent.guest.core.link import Autoconfiguration, Link
from guestagent.guest.core.snapshot import StackFile
from guestagent.guest.stacks.base import NetworkStack, Nic, Ownership, Strength
from guestagent.guest.stacks.registry import make_stacks, registered
from guestagent.guest.stacks.select import Stacks
from tests.contract.example_stack import Example

MAC = "52:54:00:00:00:01"
NIC = Nic(
    bond="bond0",
    link=Link(ifindex=2, name="ens3", address=MAC, permanent_address=MAC, driver="virtio_net"),
)


@dataclass
class System:
    """A guest's files under a temporary root."""

    root: Path

    def put(self, path: str, content: str = "") -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    @property
    def stacks(self) -> Stacks:
        return make_stacks(self.root)

    def places(self) -> set[str]:
        """Return the directories in which files are wanted, below the root."""
        files = self.stacks.files(NIC)
        return {str(Path(file.path).parent.relative_to(self.root)) for file in files}

    def autoconfiguration(self) -> Autoconfiguration:
        return self.stacks.autoconfiguration(NIC)

    def conflict(self) -> str | None:
        return self.stacks.conflict(NIC)


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


@pytest.mark.parametrize(
    ("stanza", "conflict"),
    [
        ("iface br0 inet dhcp\n  bridge_ports ens3 ens4", "is a port of br0"),
        ("iface br0 inet dhcp\n  bridge-ports none", None),
        ("iface br0 inet dhcp\n  bridge_ports all", "is a port of br0"),
        ("iface br0 inet dhcp\n  bridge_ports eth0 regex ens[0-9]+", "is a port of br0"),
        ("iface br0 inet dhcp\n  bridge_ports eth0 regex ens[", None),
        ("iface bond7 inet dhcp\n  bond-slaves ens3", "is a port of bond7"),
        ("iface ens3 inet manual\n  bond-master bond7", "is a port of bond7"),
        ("iface ens3.5 inet dhcp", "has the VLAN ens3.5"),
        ("iface vlan5 inet dhcp\n  vlan_raw_device ens3", "has the VLAN vlan5"),
        ("iface ens33 inet dhcp\niface ens3 inet dhcp", None),
        ("iface br0 inet dhcp\n  bridge_ports bond0", None),
    ],
)
def test_a_stanza_that_makes_the_nic_a_port_or_the_base_of_a_vlan_is_a_conflict(
    system: System, stanza: str, conflict: str | None
) -> None:
    system.put("usr/sbin/ifup")
    system.put("etc/network/interfaces", f"auto lo\niface lo inet loopback\n\n{stanza}\n")
    path = f"{system.root}/etc/network/interfaces"
    lost = "which would lose the NIC to a bond"
    assert system.conflict() == (conflict and f"{conflict} in {path}, {lost}")


def test_a_comment_in_any_encoding_hides_no_stanza(system: System) -> None:
    system.put("usr/sbin/ifup")
    system.put("etc/network/interfaces")
    stanza = "# Br\xfccke\niface br0 inet dhcp\n  bridge_ports ens3\n"
    (system.root / "etc/network/interfaces").write_bytes(stanza.encode("latin-1"))
    assert (system.conflict() or "").startswith("is a port of br0")


@pytest.mark.parametrize(
    ("program", "path", "text", "conflict"),
    [
        (
            *("usr/sbin/NetworkManager", "etc/NetworkManager/system-connections/a.nmconnection"),
            *("[connection]\ntype=ethernet\ncontroller=br0\nport-type=bridge\n", "br0"),
        ),
        (
            *("usr/lib/systemd/systemd-networkd", "etc/systemd/network/50-lan.network"),
            *("[Match]\nName=en*\n[Network]\nBond=uplink\n", "uplink"),
        ),
        # A bridge takes the bond as it took the NIC.
        (
            *("usr/lib/systemd/systemd-networkd", "etc/systemd/network/50-lan.network"),
            *("[Match]\nName=en*\n[Network]\nBridge=br0\n", None),
        ),
    ],
)
def test_a_file_that_makes_the_nic_a_port_is_a_conflict(
    system: System, program: str, path: str, text: str, conflict: str | None
) -> None:
    system.put(program)
    system.put(path, text)
    assert system.conflict() == (
        conflict
        and f"is a port of {conflict} in {system.root}/{path}, which would lose the NIC to a bond"
    )


@pytest.mark.parametrize("match", ["KernelCommandLine=!nfsroot\nType=ether", "Virtualization=yes"])
def test_a_condition_that_the_agent_does_not_evaluate_is_a_conflict(
    system: System, match: str
) -> None:
    path = "etc/systemd/network/50-lan.network"
    system.put(path, f"[Match]\n{match}\n[Network]\nDHCP=yes\n")
    assert system.conflict() is None, "networkd does not run, nor will it"
    system.put("etc/systemd/system/multi-user.target.wants/systemd-networkd.service")
    key = match.partition("=")[0]
    assert system.conflict() == (
        f"is configured by {system.root}/{path} only if {key}= holds, and the agent does not"
        " evaluate this key: configure the NIC by a file without it"
    )
    system.put("etc/systemd/network/40-first.network", "[Match]\nName=ens3\n")
    assert system.conflict() is None, "a file before it is the NIC's in any case"


def test_a_condition_in_a_file_for_other_nics_does_not_matter(system: System) -> None:
    system.put("etc/systemd/system/multi-user.target.wants/systemd-networkd.service")
    match = "Name=host0\nVirtualization=container"
    system.put("etc/systemd/network/80-host0.network", f"[Match]\n{match}\n")
    assert system.conflict() is None


def test_networkd_owns_a_nic_whose_bond_has_its_file_although_no_name_matches(
    system: System,
) -> None:
    system.put("usr/sbin/NetworkManager")
    lines = f"[Match]\nPermanentMACAddress={MAC}\nName=lan0\n[Network]\nDHCP=yes\n"
    system.put("etc/systemd/network/10-netplan-lan0.network", lines)
    assert system.stacks.files_for_return(NIC) == ()
    system.put("run/systemd/network/05-guestagent-bond0.network")
    (file,) = system.stacks.files_for_return(NIC)
    assert file.path.endswith("05-guestagent-bond0-standby.network")


NETWORKD = {"run/systemd/network"}
MANAGER = NETWORKD | {"run/guestagent/networkmanager"}


def test_networkmanager_takes_a_nic_that_no_other_stack_configures(system: System) -> None:
    system.put("usr/sbin/NetworkManager")
    assert system.places() == MANAGER


@pytest.mark.parametrize(("method", "makes"), [("auto", True), ("ignore", False)])
def test_networkmanager_makes_the_ipv6_addresses_of_its_nics_unless_its_method_is_ignore(
    system: System, method: str, makes: bool
) -> None:
    def answer() -> bool:
        return system.autoconfiguration() is Autoconfiguration.STACK

    assert system.autoconfiguration() is Autoconfiguration.KERNEL, "there is none"
    system.put("usr/sbin/NetworkManager")
    assert answer()
    profile = f"[connection]\ntype=ethernet\n[ipv6]\nmethod={method}\n"
    system.put("etc/NetworkManager/system-connections/lan.nmconnection", profile)
    assert answer() is makes


@pytest.mark.parametrize(
    ("client", "stanza", "options", "makes"),
    [
        ("dhcpcd", "inet dhcp", "hostname\n", True),
        ("dhcpcd", "inet dhcp", "# noipv6rs\nipv4only\n", False),
        ("dhcpcd", "inet static", "", False),
        ("dhclient", "inet dhcp", "", False),
    ],
)
def test_dhcpcd_makes_the_ipv6_addresses_of_a_nic_that_ifupdown_has_it_configure(
    system: System, client: str, stanza: str, options: str, makes: bool
) -> None:
    for program in ("ifup", client):
        system.put(f"usr/sbin/{program}")
    system.put("etc/network/interfaces", f"auto ens3\niface ens3 {stanza}\n")
    system.put("etc/dhcpcd.conf", options)
    wanted = Autoconfiguration.STACK if makes else Autoconfiguration.KERNEL
    assert system.autoconfiguration() is wanted
    system.put("etc/systemd/network/50-lan.network", "[Match]\nName=en*\n[Network]\nDHCP=yes\n")
    assert system.autoconfiguration() is wanted, "networkd comes after ifupdown"


def test_networkd_hears_routers_itself_on_a_bond_as_on_its_nic(system: System) -> None:
    system.put("etc/systemd/network/50-lan.network", "[Match]\nName=en*\n[Network]\nDHCP=yes\n")
    assert system.autoconfiguration() is Autoconfiguration.ROUTERS


def test_without_any_stack_only_the_ports_are_declared_off_limits(system: System) -> None:
    assert system.places() == NETWORKD


def test_networkmanager_leaves_a_nic_of_networkd_alone(system: System) -> None:
    system.put("usr/sbin/NetworkManager")
    system.put("etc/systemd/network/50-lan.network", "[Match]\nName=en*\n[Network]\nDHCP=yes\n")
    assert system.places() == NETWORKD


@pytest.mark.parametrize(
    "interfaces",
    [
        "auto ens3\niface ens3 inet dhcp\n",
        "source /etc/network/interfaces.d/*\n",
        "source-directory interfaces.d\n",
    ],
)
def test_networkmanager_leaves_a_nic_of_ifupdown_alone(system: System, interfaces: str) -> None:
    system.put("usr/sbin/NetworkManager")
    system.put("usr/sbin/ifup")
    system.put("etc/network/interfaces", interfaces)
    system.put("etc/network/interfaces.d/lan", "iface ens3 inet dhcp\n")
    assert system.places() == NETWORKD


@pytest.mark.parametrize(("word", "loaded"), [("true", MANAGER), ("false", NETWORKD)])
def test_the_state_file_of_networkmanager_decides_whether_it_manages_a_nic(
    system: System, word: str, loaded: set[str]
) -> None:
    system.put("usr/sbin/NetworkManager")
    system.put("run/NetworkManager/devices/2", f"[device]\nmanaged={word}\n")
    assert system.places() == loaded


def test_a_bond_that_networkmanager_was_given_stays_with_it_although_the_nic_is_unmanaged(
    system: System,
) -> None:
    system.put("usr/sbin/NetworkManager")
    for file in system.stacks.files(NIC):
        system.stacks.write(file.path, file.content)
    system.put("run/NetworkManager/devices/2", "[device]\nmanaged=false\n")
    assert system.places() == MANAGER
    system.stacks.give_back("bond0")
    assert system.places() == NETWORKD


@dataclass
class Answering(NetworkStack):
    """Gives one answer for every NIC, and notes which bonds it is asked to reload."""

    answer: Ownership
    makes: Autoconfiguration = Autoconfiguration.KERNEL
    directories: tuple[Path, ...] = ()
    fails: bool = False
    reloaded: list[str] = field(default_factory=list)

    def ownership(self, nic: Nic) -> Ownership:
        return self.answer

    def autoconfiguration(self, nic: Nic) -> Autoconfiguration:
        return self.makes

    def files(self, nic: Nic, *, owned: bool) -> tuple[StackFile, ...]:
        file = StackFile(path=f"/{id(self)}", content="", in_place=False)
        return (file,) if owned else ()

    def reload(self, bond: str) -> None:
        self.reloaded.append(bond)
        if self.fails:
            raise PeerError(f"{id(self)} does not answer")


NO, DEFAULT, CONFIGURED, CONFIRMED = tuple(Strength)


@pytest.mark.parametrize(
    ("strengths", "owners"),
    [
        ((NO, NO), ()),
        ((NO, DEFAULT), (1,)),
        ((CONFIGURED, DEFAULT), (0,)),
        ((CONFIGURED, CONFIRMED), (1,)),
        ((CONFIGURED, CONFIGURED), (0, 1)),
    ],
)
def test_the_strongest_answers_own_a_nic_and_the_first_of_them_makes_its_ipv6_addresses(
    strengths: tuple[Strength, ...], owners: tuple[int, ...]
) -> None:
    made = (Autoconfiguration.ROUTERS, Autoconfiguration.STACK)
    parts = [
        Answering(Ownership(strength), makes)
        for strength, makes in zip(strengths, made, strict=True)
    ]
    stacks = Stacks(parts)
    assert [file.path for file in stacks.files(NIC)] == [f"/{id(parts[at])}" for at in owners]
    makes = made[owners[0]] if owners else Autoconfiguration.KERNEL
    assert stacks.autoconfiguration(NIC) is makes


def test_only_a_stack_with_precedence_that_is_configured_settles_a_doubt() -> None:
    doubtful = Answering(Ownership(NO, doubt="is configured if it rains"))
    for strength, settled in ((CONFIGURED, True), (DEFAULT, False), (NO, False)):
        other = Answering(Ownership(strength))
        expected = None if settled else "is configured if it rains"
        assert Stacks((other, doubtful)).conflict(NIC) == expected
        assert Stacks((doubtful, other)).conflict(NIC) == "is configured if it rains"


def test_a_stack_that_fails_keeps_no_other_from_its_part() -> None:
    parts = [Answering(Ownership(NO), fails=fails) for fails in (False, True, True, False)]
    with pytest.raises(PeerError, match=str(id(parts[1]))):
        Stacks(parts).reload("bond0")
    assert [part.reloaded for part in parts] == [["bond0"]] * 4


def test_a_stack_that_is_kept_off_a_bond_alone_reads_the_file(tmp_path: Path) -> None:
    parts = [Answering(Ownership(NO), directories=(tmp_path / name,)) for name in ("a", "b")]
    Stacks(parts).hold_off("bond0", str(tmp_path / "b/bond0"), "keep off\n")
    assert (tmp_path / "b/bond0").read_text() == "keep off\n"
    assert [part.reloaded for part in parts] == [[], ["bond0"]]


def test_a_file_in_a_directory_of_no_stack_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(InternalError, match="no directory of a network stack"):
        make_stacks(tmp_path).write(str(tmp_path / "elsewhere"), "")
    assert not (tmp_path / "elsewhere").exists()


def test_the_stacks_of_the_registry_share_no_directory(tmp_path: Path) -> None:
    directories = [path for stack in registered(tmp_path) for path in stack.directories]
    assert len(directories) == len(set(directories))


def test_a_stack_of_ten_lines_works_beside_the_others(system: System) -> None:
    system.put("usr/sbin/NetworkManager")
    stacks = Stacks((*registered(system.root), Example(system.root)))
    assert stacks.autoconfiguration(NIC) is Autoconfiguration.STACK, "NetworkManager takes it"
    system.put("etc/example/ens3", "dhcp\n")
    assert stacks.autoconfiguration(NIC) is Autoconfiguration.KERNEL, "the example is configured"
    assert stacks.conflict(NIC) is None
    for file in stacks.files(NIC):
        stacks.write(file.path, file.content)
    assert (system.root / "run/example/bond0").read_text() == "dhcp\n"
    assert not (system.root / "run/guestagent/networkmanager").exists()
    assert all(file.in_place for file in stacks.files(NIC))
    stacks.give_back("bond0")
    assert not (system.root / "run/example/bond0").exists()
