"""A VF comes into a running guest that is configured and in use, goes, and comes again."""

from __future__ import annotations

import time

import pytest

from lab.machine.machine import Machine
from lab.machine.setup import NicPair
from lab.network.wires import Network
from lab.probe.usage import agent_usage
from tests.guest.seen import (
    assert_becomes,
    assert_nothing_lost,
    assert_one_gap,
    configuration,
    configure,
    look,
    probed,
    wait_at_rest,
    wait_converged,
    wait_nics,
    wait_on_standby,
    wait_on_vf,
)

PAIR = NicPair()
OTHER_PORT = "rp3"
CYCLES = 20


@pytest.mark.parametrize("match", ["Name=en*", f"MACAddress={PAIR.mac}"])
def test_a_first_vf_is_adopted_with_all_that_the_nic_had(
    guest: Machine, network: Network, match: str
) -> None:
    configure(guest, match)
    before = look(guest)
    assert not before.bonds

    def plug() -> None:
        guest.plug_vf()
        wait_on_vf(guest)

    result = probed(network, guest, plug)
    assert_nothing_lost(result)
    wait_converged(guest)
    for family, peer in zip("46", PAIR.peer_addresses, strict=True):
        (route,) = guest.run_json(f"ip -json -{family} route show default")
        assert (route["dev"], route["gateway"]) == (
            "bond0",
            peer.split("/")[0].replace(":0:", ":"),
        )
        guest.run(f"ping -{family} -c 1 -W 30 {peer.split('/')[0]}")


def test_a_vf_that_goes_and_comes_is_primary_again_under_any_name(
    guest: Machine, network: Network
) -> None:
    guest.plug_vf()
    before = wait_on_vf(guest)
    wait_converged(guest)

    def unplug() -> None:
        guest.unplug_vf()
        wait_on_standby(guest)

    result = probed(network, guest, unplug)
    assert_one_gap(result)  # the driver's remove path

    def plug_elsewhere() -> None:
        guest.plug_vf(bus=OTHER_PORT)
        wait_on_vf(guest)

    result = probed(network, guest, plug_elsewhere)
    assert_nothing_lost(result)
    after = wait_on_vf(guest)
    assert after.primary != before.primary, "the other port has another name"
    assert (after.ifindex, after.options) == (before.ifindex, before.options)


def test_many_cycles_leave_nothing_behind(guest: Machine) -> None:
    bonds, usages, times_s = [], [], []
    for cycle in range(CYCLES):
        begin_s = time.monotonic()
        guest.plug_vf(bus=OTHER_PORT if cycle % 2 else PAIR.vf_port)
        bonds.append(wait_on_vf(guest))
        times_s.append(time.monotonic() - begin_s)
        if cycle in {CYCLES // 2, CYCLES - 1}:
            wait_converged(guest)
            usages.append(wait_at_rest(guest))
        guest.unplug_vf()
        bonds.append(wait_on_standby(guest))
    print(usages, [round(time_s, 2) for time_s in times_s])
    assert len({(bond.ifindex, bond.name, bond.alias, bond.options) for bond in bonds}) == 1
    assert guest.run("guestagent plan").strip() == "nothing to do"
    assert wait_converged(guest)["left_alone"] == []
    half, end = usages
    assert end.descriptors == half.descriptors
    assert end.resident_kib - half.resident_kib < 512


def test_a_running_agent_that_has_nothing_to_do_sleeps(guest: Machine) -> None:
    guest.plug_vf()
    wait_on_vf(guest)
    wait_converged(guest)
    begin = wait_at_rest(guest)
    time.sleep(10)
    end = agent_usage(guest)
    print(begin, end)
    assert end.wakeups - begin.wakeups <= 1, "but for the watchdog of systemd"
    assert end.resident_kib < 40 * 1024


def test_the_bond_of_a_guest_survives_what_is_done_to_networkd(
    guest: Machine, network: Network
) -> None:
    guest.plug_vf()
    wait_on_vf(guest)
    wait_converged(guest)
    before = configuration(guest)

    def disturb() -> None:
        guest.run("networkctl reload && systemctl restart systemd-networkd && networkctl reload")
        guest.run("networkctl reconfigure bond0")

    assert probed(network, guest, disturb).lost_on_the_way == 0
    wait_on_vf(guest)
    assert_becomes(lambda: configuration(guest), before)
    guest.unplug_vf()
    wait_on_standby(guest)


AGENT = "systemctl show --property MainPID --value guestagent"
# libudev gives its monitors 128 MiB, which would take an hour to fill: the socket is borrowed
# (pidfd_getfd(2), which the C library does not know) and its buffer made small.
NARROW = f"""
python3 - $({AGENT}) <<'END'
import ctypes, os, socket, sys
PIDFD_GETFD, UEVENT = 438, 15
pid = int(sys.argv[1])
pidfd = os.pidfd_open(pid)
for name in os.listdir(f"/proc/{{pid}}/fd"):
    if os.readlink(f"/proc/{{pid}}/fd/{{name}}").startswith("socket:"):
        borrowed = ctypes.CDLL(None).syscall(PIDFD_GETFD, pidfd, int(name), 0)
        with socket.socket(fileno=borrowed) as it:
            if (it.family, it.proto) == (socket.AF_NETLINK, UEVENT):
                it.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
END
"""
FLOOD = f"""
kill -STOP $({AGENT})
for n in $(seq 1500); do echo link set dev lo mtu $((60000 + n)); done | ip -batch -
for _ in $(seq 20); do echo change >/sys/class/net/lo/uevent; done
udevadm settle
"""
OVERFLOWN = f"""
ls -l /proc/$({AGENT})/fd |
    sed -n 's/.*socket:\\[\\([0-9]*\\)\\].*/\\1/p' |
    awk 'NR == FNR {{ own[$1]; next }} $10 in own && $9 > 0 {{ print $2 }}' - /proc/net/netlink |
    sort -nu
"""
ROUTE, UEVENT = "0", "15"
"""Netlink protocols, as /proc/net/netlink numbers them (K: include/uapi/linux/netlink.h)."""


def test_lost_events_of_the_kernel_and_of_udev_are_made_up_for(guest: Machine) -> None:
    guest.run("systemctl service-watchdogs no")  # nobody ends the agent while it is stopped
    guest.plug_vf()
    wait_on_vf(guest)
    wait_converged(guest)
    pid = guest.run(AGENT)
    guest.run(NARROW + FLOOD)
    guest.unplug_vf()
    guest.plug_vf(bus=OTHER_PORT)
    wait_nics(guest, 2)
    overflown = guest.run(OVERFLOWN).split()
    assert overflown == [ROUTE, UEVENT], "both monitors have lost what they were not read for"
    guest.run(f"kill -CONT $({AGENT})")
    wait_on_vf(guest)
    wait_converged(guest)
    # What comes after that is heard of by both again.
    guest.unplug_vf()
    wait_on_standby(guest)
    guest.plug_vf()
    wait_on_vf(guest)
    assert guest.run(AGENT) == pid
