"""Bonds at boot: before the network is configured, with the VF and without it."""

from __future__ import annotations

from lab.machine.guests import Guests
from lab.machine.machine import Machine
from lab.machine.setup import NicPair, Setup
from tests.guest.seen import (
    assert_becomes,
    configuration,
    look,
    wait_converged,
    wait_on_standby,
    wait_on_vf,
)

FIRST, SECOND = NicPair(vf_at_boot=True), NicPair(index=1)


def early_was_first(guest: Machine) -> bool:
    """Whether the early unit ended before networkd began."""
    show = "systemctl show --value --property"
    early = guest.run(f"{show} ExecMainExitTimestampMonotonic guestagent-early")
    networkd = guest.run(f"{show} ExecMainStartTimestampMonotonic systemd-networkd")
    return 0 < int(early) < int(networkd)


def made_early(guest: Machine) -> set[str]:
    """Return the bonds that the early unit of this boot completed."""
    # By its number: of a process that ends soon the journal may learn no more (its unit is read
    # in /proc, systemd: src/journal/journald-context.c).
    early = "$(systemctl show --value --property ExecMainPID guestagent-early)"
    match = f"_PID={early} ACTION=MarkBond"
    lines = guest.run(f"journalctl --boot --output=json --output-fields=BOND {match} || true")
    return {
        line.split('"BOND":"')[1].split('"')[0] for line in lines.splitlines() if "BOND" in line
    }


def assert_the_initramfs_tells_vfs(guest: Machine) -> None:
    """A NIC that udev meets before the root is mounted gets its name there."""
    listed = guest.run("lsinitramfs /boot/initrd.img-*").splitlines()
    for wanted in (
        "lib/udev/guestagent-port",
        "lib/udev/rules.d/70-guestagent.rules",
        "lib/udev/rules.d/95-guestagent-name.rules",
        "lib/systemd/network/05-guestagent-bond.link",
        "lib/systemd/network/05-guestagent-port.link",
    ):
        assert any(name.endswith(wanted) for name in listed), wanted


def test_two_pairs_through_boots_with_and_without_their_vfs(guests: Guests) -> None:
    guest = guests.boot(Setup(pairs=(FIRST, SECOND)))
    guest.wait_ready()
    assert_the_initramfs_tells_vfs(guest)
    wait_converged(guest)
    first = wait_on_vf(guest, FIRST)
    assert early_was_first(guest)
    assert made_early(guest) == {"bond0"}
    assert look(guest).bond(SECOND) is None, "a NIC that never had a VF is not touched"

    guest.plug_vf(SECOND)
    second = wait_on_vf(guest, SECOND)
    wait_converged(guest)
    assert (first.name, second.name) == ("bond0", "bond1")
    assert wait_on_vf(guest, FIRST) == first, "what one pair does is nothing to the other"

    guest.unplug_vf(FIRST)
    wait_on_standby(guest, FIRST)
    guest.reboot()
    assert wait_on_standby(guest, FIRST).name == "bond0", "remembered"
    assert wait_on_vf(guest, SECOND).name == "bond1"
    assert early_was_first(guest)
    assert made_early(guest) == {"bond0", "bond1"}
    assert wait_converged(guest)["pending"] == []
    before = configuration(guest)

    guest.plug_vf(FIRST)
    joined = wait_on_vf(guest, FIRST)
    wait_converged(guest)
    assert (joined.name, joined.options) == (first.name, first.options)
    guest.unplug_vf(FIRST)
    wait_on_standby(guest, FIRST)
    assert_becomes(lambda: configuration(guest), before)
