"""Configurations that the agent cannot or must not change: it reports them and changes nothing."""

from __future__ import annotations

import pytest

from lab.base.waiting import wait_until
from lab.machine.guests import Guests
from lab.machine.machine import Machine
from lab.machine.monitor import Json
from lab.machine.setup import NicPair, Setup
from tests.guest.seen import (
    CONVERGED_S,
    assert_becomes,
    configuration,
    configure,
    look,
    wait_converged,
    wait_nics,
    wait_on_vf,
)

PAIR = NicPair()
BY_DRIVER = "Driver=virtio_net"
"""So that networkd itself keeps off the NICs that are plugged in."""
NO_MODULE = "/etc/modprobe.d/no-bonding.conf"


def wait_for_log(guest: Machine, text: str) -> str:
    """Wait until the agent has logged something, and return the line."""
    command = f"journalctl --boot --output=cat --unit guestagent --grep '{text}' || true"
    return wait_until(f"logged: {text}", lambda: guest.run(command), timeout_s=CONVERGED_S)


def wait_left_alone(guest: Machine) -> Json:
    """Wait until the running agent reports NICs that it leaves alone; return the report."""

    def refused() -> Json:
        return guest.run_json("guestagent status --json")["left_alone"]

    (refusal,) = wait_until("a group of NICs is left alone", refused, timeout_s=CONVERGED_S)
    return refusal


def without_vf(text: str) -> str:
    """Return the lines of a configuration that do not speak of a NIC that was plugged later."""
    return "\n".join(line for line in text.splitlines() if "enp2s0" not in line)


def plug_a_third(guest: Machine) -> None:
    """Plug in one more NIC with the MAC of the pair."""
    guest.qmp("netdev_add", type="hubport", id="third", hubid=9)
    device = PAIR.vf_device() | {"id": "third", "netdev": "third", "bus": "rp3"}
    guest.qmp("device_add", **device)


def test_without_the_bonding_module_the_nic_keeps_the_network(guest: Machine) -> None:
    configure(guest, BY_DRIVER)
    guest.write_file(NO_MODULE, "install bonding /bin/false\n")
    guest.run("! grep -q ^bonding /proc/modules || modprobe --remove bonding")
    before = configuration(guest)
    guest.plug_vf()
    assert "modprobe bonding" in wait_for_log(guest, "no bonding module")
    assert without_vf(configuration(guest)) == without_vf(before)
    guest.run('ping -c 1 -W 30 198.18.0.1 && test -z "$(ls /run/systemd/network)"')

    done = guest.execute("guestagent early", timeout_s=CONVERGED_S)
    assert done.code == 1
    assert "no bonding module" in done.stderr
    assert "→ install the full kernel package" in done.stderr
    guest.run("systemctl stop guestagent")
    done = guest.execute("guestagent run", timeout_s=CONVERGED_S)
    assert (done.code, "no bonding module" in done.stderr) == (1, True)
    assert without_vf(configuration(guest)) == without_vf(before)

    guest.run(f"rm {NO_MODULE} && systemctl start guestagent")
    wait_on_vf(guest)


def test_a_running_agent_goes_on_when_what_it_lacks_is_there(guest: Machine) -> None:
    configure(guest, BY_DRIVER)
    guest.write_file(NO_MODULE, "install bonding /bin/false\n")
    guest.run("! grep -q ^bonding /proc/modules || modprobe --remove bonding")
    guest.plug_vf()
    wait_for_log(guest, "no bonding module")
    guest.run(f"rm {NO_MODULE}")
    wait_on_vf(guest)


@pytest.mark.parametrize("command", ["run", "early"])
def test_without_permission_nothing_is_begun(guest: Machine, command: str) -> None:
    configure(guest, BY_DRIVER)
    guest.run("systemctl stop guestagent")
    guest.plug_vf()
    wait_nics(guest, 2)
    before = configuration(guest)
    nobody = f"runuser -u nobody -- guestagent {command}"
    done = guest.execute(nobody, timeout_s=CONVERGED_S)
    assert done.code == 1
    assert "no permission to change the network (CAP_NET_ADMIN)" in done.stderr
    assert "→ run it as root" in done.stderr
    assert configuration(guest) == before


def test_three_nics_of_one_mac_are_left_alone(guest: Machine) -> None:
    configure(guest, BY_DRIVER)
    guest.run("systemctl stop guestagent")
    guest.plug_vf()
    plug_a_third(guest)
    wait_nics(guest, 3)
    before = configuration(guest)
    guest.run("systemctl start guestagent")
    refusal = wait_left_alone(guest)
    assert refusal["reason"] == "3 NICs share this MAC and a pair has two"
    assert len(refusal["links"]) == 3
    assert refusal["hint"] in wait_for_log(guest, "3 NICs share this MAC")
    assert configuration(guest) == before
    assert not look(guest).bonds


def test_a_third_nic_of_the_mac_does_not_disturb_the_bond(guest: Machine) -> None:
    guest.plug_vf()
    wait_on_vf(guest)
    wait_converged(guest)
    bond = wait_on_vf(guest)
    plug_a_third(guest)
    assert "3 NICs share this MAC" in wait_left_alone(guest)["reason"]
    guest.run("udevadm settle && ping -c 1 -W 30 198.18.0.1")
    assert look(guest).bond(PAIR) == bond
    third = next(nic for nic in look(guest).nics if nic.name not in bond.ports)
    assert (third.upper, third.addresses) == (None, frozenset())
    seen = len(guest.events)
    guest.qmp("device_del", id="third")
    guest.wait_event("DEVICE_DELETED", device="third", after=seen)
    assert_becomes(lambda: wait_converged(guest)["left_alone"], [])


def test_a_net_failover_pair_is_left_to_the_kernel(guest: Machine) -> None:
    configure(guest, BY_DRIVER)
    guest.qmp("device_del", id="nic0")
    guest.wait_event("DEVICE_DELETED", device="nic0")
    guest.qmp(
        "device_add",
        driver="virtio-net-pci",
        id="failover",
        netdev="standby0",
        mac=PAIR.mac,
        bus="rp0",
        failover=True,
    )
    refusal = wait_left_alone(guest)
    assert refusal["reason"] == "the kernel's net_failover already pairs these NICs"
    assert "remove failover=on" in wait_for_log(guest, "net_failover")
    guest.plug_vf()
    wait_until("the VF is there", lambda: look(guest).vf(PAIR), timeout_s=CONVERGED_S)
    guest.run("udevadm settle && sleep 5")
    assert not look(guest).bonds
    assert "net_failover" in wait_left_alone(guest)["reason"]


@pytest.mark.parametrize("bonded", [False, True], ids=["before", "after"])
def test_a_broken_configuration_stops_the_agent_and_nothing_else(
    guest: Machine, *, bonded: bool
) -> None:
    if bonded:
        guest.plug_vf()
        wait_on_vf(guest)
        wait_converged(guest)
    before = configuration(guest)
    guest.write_file("/etc/guestagent/guestagent.toml", "[bond]\nmiimon = 100\n")
    assert guest.execute("systemctl restart guestagent").code != 0
    shown = guest.run("systemctl show --property Result,ExecMainStatus,NRestarts guestagent")
    assert set(shown.split()) == {"Result=exit-code", "ExecMainStatus=2", "NRestarts=0"}
    said = wait_for_log(guest, "unknown key")
    assert "/etc/guestagent/guestagent.toml: unknown key bond.miimon" in said
    assert (
        "known keys of bond: nics, fail-over-mac, miimon-ms"
        in guest.execute("guestagent plan").stderr
    )
    assert guest.execute("guestagent early").code == 2
    assert configuration(guest) == before

    guest.run("rm /etc/guestagent/guestagent.toml && systemctl restart guestagent")
    wait_converged(guest)
    assert configuration(guest) == before


def test_a_nic_of_another_mac_keeps_its_own_configuration(guests: Guests) -> None:
    odd = "[Match]\nDriver=e1000e\n[Network]\nAddress=198.18.0.77/24\n"
    files = {**PAIR.network_file(), "etc/systemd/network/40-odd.network": odd}
    guest = guests.start(Setup(network_files=files))
    device = PAIR.vf_device() | {"mac": "52:54:00:5a:00:77"}
    guest.qmp("device_add", **device)

    def has_address() -> bool:
        return any("198.18.0.77/24" in nic.addresses for nic in look(guest).nics)

    wait_until("networkd has configured the NIC", has_address, timeout_s=CONVERGED_S)
    status = wait_converged(guest)
    assert (status["pairs"], status["left_alone"]) == ([], [])
    assert not look(guest).bonds


@pytest.mark.parametrize("defended", [True, False], ids=["our-link-file", "no-link-file"])
def test_a_vf_that_another_link_file_would_rename_is_adopted(
    guest: Machine, *, defended: bool
) -> None:
    """As cloud-init's set-name does: the name is taken, and udev forgets the VF."""
    name = look(guest).standby(PAIR).name
    rename = f"[Match]\nMACAddress={PAIR.mac}\n[Link]\nName={name}\n"
    guest.write_file("/etc/systemd/network/50-cloud-init.link", rename)
    if not defended:
        guest.run("rm /usr/lib/systemd/network/05-guestagent-port.link")
    guest.run("udevadm control --reload")
    guest.plug_vf()
    bond = wait_on_vf(guest)
    known = guest.run(f"udevadm info --query property /sys/class/net/{bond.active}")
    assert (bond.active != "eth0", "ID_NET_DRIVER" in known) == (defended, defended)
    wait_converged(guest)
