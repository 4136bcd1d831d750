"""The static configuration that does without the agent, from what the kernel shows."""

from __future__ import annotations

import configparser
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from guestagent.errors import ConflictError
from guestagent.guest.cli import render as command
from guestagent.guest.cli.main import main
from guestagent.guest.core.addressing import Address, Route
from guestagent.guest.core.policy import FAIL_OVER_MAC_ACTIVE, BondOptions
from guestagent.guest.render import gather, netplan, networkd, networkmanager
from guestagent.guest.render.model import File, Settings, StaticPair, Vlan, settings

MAC = "52:54:00:5a:00:00"
PERMANENT = 0x80
V4 = Address(family=2, address="198.18.0.10", prefix_length=24, flags=PERMANENT)
V6 = Address(family=10, address="2001:db8::a", prefix_length=64, flags=PERMANENT)
GATEWAY = Route(family=2, destination=None, prefix_length=0, gateway="198.18.0.1", protocol=4)
GATEWAY6 = Route(
    family=10, destination=None, prefix_length=0, gateway="fe80::1", protocol=4, metric=1024
)
STATIC = replace(
    settings((V4, V6), (GATEWAY, GATEWAY6)), dns=("192.0.2.53",), domains=("example.org",)
)
PAIR = StaticPair(
    bond="bond0",
    mac=MAC,
    mtu=9000,
    options=BondOptions(),
    vf_name="ens3",
    vf_driver="igbvf",
    settings=STATIC,
)


def named(files: tuple[File, ...], name: str) -> str:
    return next(file.content for file in files if file.name == name)


# what is static, and what comes from somewhere


def test_permanent_addresses_are_static_and_link_local_ones_are_left_out() -> None:
    local = Address(family=10, address="fe80::1", prefix_length=64, scope=253, flags=PERMANENT)
    assert settings((V4, V6, local), (GATEWAY,)) == Settings(addresses=(V4, V6), routes=(GATEWAY,))


def test_a_lease_becomes_dhcp_and_no_static_address() -> None:
    lease = replace(V4, flags=0, valid_s=3600)
    through_dhcp = replace(GATEWAY, protocol=16)
    assert settings((lease,), (through_dhcp,)) == Settings(dhcp4=True)
    by_dhclient = replace(GATEWAY, protocol=3)
    assert settings((lease,), (by_dhclient,)) == Settings(dhcp4=True)
    assert settings((V4,), (by_dhclient,)) == Settings(addresses=(V4,), routes=(by_dhclient,))
    assert settings((V4,), (through_dhcp,)).dhcp4, "a lease without end shows in the route"


def test_router_advertisements_and_dhcpv6_are_told_apart() -> None:
    from_router = replace(V6, flags=0, valid_s=1800)
    assert settings((from_router,), ()) == Settings(accept_ra=True)
    from_server = replace(V6, flags=0, prefix_length=128, valid_s=1800)
    assert settings((from_server,), ()) == Settings(accept_ra=True, dhcp6=True)
    assert settings((), (replace(GATEWAY6, protocol=9),)) == Settings(accept_ra=True)


# the files


def test_networkd_gets_a_bond_with_its_mac_and_ports_by_permanent_mac_and_driver() -> None:
    files = tuple(networkd.files((PAIR,)))
    bond = named(files, "05-bond0.netdev")
    for line in (f"MACAddress={MAC}", "MTUBytes=9000", "FailOverMACPolicy=none"):
        assert line in bond.splitlines()
    standby, vf = named(files, "05-bond0-standby.network"), named(files, "05-bond0-vf.network")
    for text, driver in ((standby, "virtio_net"), (vf, "!virtio_net")):
        lines = text.splitlines()
        assert {f"PermanentMACAddress={MAC}", f"Driver={driver}", "Bond=bond0"} <= set(lines)
        assert {"LinkLocalAddressing=no", "IPv6AcceptRA=no"} <= set(lines)
    assert "PrimarySlave=yes" in vf
    assert "PrimarySlave" not in standby
    assert named(files, "05-bond0.network") == (
        "[Match]\nName=bond0\nKind=bond\n\n"
        "[Network]\nDHCP=no\nIPv6AcceptRA=no\nAddress=198.18.0.10/24\nAddress=2001:db8::a/64\n"
        "DNS=192.0.2.53\nDomains=example.org\n\n"
        "[Route]\nGateway=198.18.0.1\n\n[Route]\nGateway=fe80::1\n"
    )


def test_networkd_keeps_the_sections_of_the_file_by_which_it_configures_the_pair() -> None:
    own = (
        ("Match", (("MACAddress", MAC),)),
        ("Network", (("DHCP", "yes"), ("VLAN", "vlan7"))),
        ("DHCPv4", (("ClientIdentifier", "mac"),)),
    )
    vlan = Vlan(name="vlan7", tag=7, mtu=1500, settings=Settings())
    files = tuple(networkd.files((replace(PAIR, networkd=own, vlans=(vlan,)),)))
    assert named(files, "05-bond0.network") == (
        "[Match]\nName=bond0\nKind=bond\n\n[Network]\nDHCP=yes\nVLAN=vlan7\n\n"
        "[DHCPv4]\nClientIdentifier=mac\n"
    )
    assert [file.name for file in files if "vlan7" in file.name] == [], "the user has its files"


def test_every_stack_gets_the_vlans_and_all_that_a_route_has() -> None:
    route = Route(
        family=2,
        destination="192.0.2.0",
        prefix_length=24,
        gateway="198.18.0.2",
        source="198.18.0.10",
        table=100,
        metric=50,
        mtu=1400,
        flags=0x4,
    )
    tagged = Vlan(name="vlan7", tag=7, mtu=1500, settings=settings((V4,), ()))
    pair = replace(PAIR, settings=settings((V4,), (route,)), vlans=(tagged,))
    files = tuple(networkd.files((pair,)))
    assert "Id=7" in named(files, "05-vlan7.netdev")
    assert "Address=198.18.0.10/24" in named(files, "05-vlan7.network")
    assert "VLAN=vlan7" in named(files, "05-bond0.network")
    assert named(files, "05-bond0.network").endswith(
        "[Route]\nDestination=192.0.2.0/24\nGateway=198.18.0.2\nGatewayOnLink=yes\n"
        "PreferredSource=198.18.0.10\nMetric=50\nMTUBytes=1400\nTable=100\n"
    )
    (plan,) = netplan.files((pair,), renderer="networkd")
    for line in ('- to: "192.0.2.0/24"', 'via: "198.18.0.2"', "on-link: true", "table: 100"):
        assert line in [text.strip() for text in plan.content.splitlines()]
    assert '  vlans:\n    vlan7:\n      id: 7\n      link: "bond0"\n' in plan.content
    profiles = tuple(networkmanager.files((pair,)))
    assert "route1=192.0.2.0/24,198.18.0.2,50\n" in named(profiles, "bond0.nmconnection")
    assert "route1_options=onlink=true,src=198.18.0.10,mtu=1400,table=100\n" in named(
        profiles, "bond0.nmconnection"
    )
    assert "[vlan]\nid=7\nparent=bond0\n" in named(profiles, "vlan7.nmconnection")


def test_netplan_gets_one_private_file() -> None:
    (file,) = netplan.files((PAIR,), renderer="networkd")
    assert (file.name, file.private) == ("05-guestagent-pairs.yaml", True)
    assert file.content == (
        "network:\n"
        "  version: 2\n"
        '  renderer: "networkd"\n'
        "  ethernets:\n"
        "    bond0-standby:\n"
        "      match:\n"
        f'        macaddress: "{MAC}"\n'
        '        driver: "virtio_net"\n'
        "      dhcp4: false\n"
        "      dhcp6: false\n"
        "      accept-ra: false\n"
        "      link-local: []\n"
        "    bond0-vf:\n"
        "      match:\n"
        f'        macaddress: "{MAC}"\n'
        '        driver: "igbvf"\n'
        "      dhcp4: false\n"
        "      dhcp6: false\n"
        "      accept-ra: false\n"
        "      link-local: []\n"
        "      optional: true\n"
        "  bonds:\n"
        "    bond0:\n"
        '      interfaces: ["bond0-standby", "bond0-vf"]\n'
        f'      macaddress: "{MAC}"\n'
        "      mtu: 9000\n"
        "      parameters:\n"
        '        mode: "active-backup"\n'
        "        mii-monitor-interval: 100\n"
        '        primary: "bond0-vf"\n'
        '        primary-reselect-policy: "always"\n'
        '        fail-over-mac-policy: "none"\n'
        "        gratuitous-arp: 3\n"
        "      dhcp4: false\n"
        "      dhcp6: false\n"
        "      accept-ra: false\n"
        '      addresses: ["198.18.0.10/24", "2001:db8::a/64"]\n'
        "      routes:\n"
        '        - to: "0.0.0.0/0"\n'
        '          via: "198.18.0.1"\n'
        '        - to: "::/0"\n'
        '          via: "fe80::1"\n'
        "      nameservers:\n"
        '        addresses: ["192.0.2.53"]\n'
        '        search: ["example.org"]\n'
    )


def test_netplan_needs_the_driver_of_the_vf() -> None:
    with pytest.raises(ConflictError, match="away") as caught:
        list(netplan.files((replace(PAIR, vf_driver=None, vf_name=None),), renderer="networkd"))
    assert caught.value.hint


def test_networkmanager_gets_private_profiles_that_go_before_those_of_the_nic() -> None:
    files = tuple(networkmanager.files((PAIR,)))
    assert all(file.private for file in files)
    parsed = {}
    for file in files:
        parsed[file.name] = configparser.ConfigParser(interpolation=None)
        parsed[file.name].read_string(file.content)
    bond = parsed["bond0.nmconnection"]
    assert bond["bond"]["primary"] == "ens3"
    assert dict(bond["ethernet"]) == {"cloned-mac-address": MAC, "mtu": "9000"}
    follows = replace(PAIR, options=BondOptions(fail_over_mac=FAIL_OVER_MAC_ACTIVE))
    text = named(tuple(networkmanager.files((follows,))), "bond0.nmconnection")
    assert "cloned-mac-address" not in text, "the kernel would take no MAC"
    assert bond["ipv4"]["address1"] == "198.18.0.10/24"
    assert (bond["ipv4"]["method"], bond["ipv4"]["route1"]) == ("manual", "0.0.0.0/0,198.18.0.1")
    assert (bond["ipv4"]["dns"], bond["ipv6"]["method"]) == ("192.0.2.53;", "manual")
    vf = parsed["bond0-vf.nmconnection"]
    assert (vf["match"]["driver"], vf["bond-port"]["prio"]) == ("!virtio_net;", "100")
    assert vf["connection"]["controller"] == "bond0"


@pytest.mark.parametrize(
    ("given", "dhcp", "ipv4", "ipv6"),
    [
        (Settings(dhcp4=True), "ipv4", "auto", "link-local"),
        (Settings(dhcp4=True, dhcp6=True, accept_ra=True), "yes", "auto", "auto"),
        (Settings(accept_ra=True), "no", "disabled", "auto"),
    ],
)
def test_dhcp_and_router_advertisements_stay_dynamic(
    given: Settings, dhcp: str, ipv4: str, ipv6: str
) -> None:
    pair = replace(PAIR, settings=given)
    text = named(tuple(networkd.files((pair,))), "05-bond0.network")
    assert f"DHCP={dhcp}\nIPv6AcceptRA={'yes' if given.accept_ra else 'no'}\n" in text
    profile = named(tuple(networkmanager.files((pair,))), "bond0.nmconnection")
    assert f"[ipv4]\nmethod={ipv4}\n\n[ipv6]\nmethod={ipv6}\n" in profile


# the command


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "gather", lambda _: (PAIR,))


@pytest.mark.usefixtures("here")
def test_the_files_are_printed_with_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "networkd"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# /etc/systemd/network/05-bond0.netdev\n[NetDev]\n")
    assert "# /etc/systemd/network/05-bond0-vf.network\n[Match]\n" in out


@pytest.mark.usefixtures("here")
def test_files_are_written_once_and_never_over_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new"
    assert main(["render", "networkmanager", "--output", str(output)]) == 0
    names = sorted(path.name for path in output.iterdir())
    assert names == ["bond0-standby.nmconnection", "bond0-vf.nmconnection", "bond0.nmconnection"]
    modes = {stat.S_IMODE(path.stat().st_mode) for path in output.iterdir()}
    assert modes == {0o600}
    (output / "bond0.nmconnection").write_text("mine")
    (output / "bond0-vf.nmconnection").unlink()
    assert main(["render", "networkmanager", "--output", str(output)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert (output / "bond0.nmconnection").read_text() == "mine"
    assert not (output / "bond0-vf.nmconnection").exists(), "all files or none"


def test_the_command_knows_every_stack() -> None:
    from guestagent.guest.render.model import Target

    assert set(command._TARGETS) == set(Target)
