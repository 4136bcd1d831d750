"""First boots under cloud-init with a VF present, and the boots that follow."""

from __future__ import annotations

from lab.flavour import Flavour, Stack, Suite
from lab.guests import Guests
from lab.machine import Machine
from lab.setup import Pair, Setup
from lab.waiting import wait_until
from tests.guest.seen import look, wait_converged, wait_on_standby, wait_on_vf

PAIR = Pair(vf_at_boot=True)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKs0ZjJ2ZXJ5bm90YXJlYWxrZXlhdGFsbHh4eHh4 someone"
USER_DATA = f"""\
#cloud-config
users:
  - name: someone
    ssh_authorized_keys: ["{KEY}"]
runcmd:
  - touch /var/tmp/runcmd-was-here
updates:
  network:
    when: [boot-new-instance, hotplug]
"""
HIDDEN_S = 60.0
BOOT_S = 300.0
"""Of a first boot, on a busy machine."""


def setup(suite: Suite) -> Setup:
    """Return a guest whose disk has a NoCloud seed."""
    flavour = Flavour(suite=suite, stack=Stack.CLOUD_INIT, dhcp=False)
    seed = flavour.seed((PAIR,), user_data=USER_DATA)
    return Setup(flavour=flavour, pairs=(PAIR,), network_files=seed, memory_mib=768)


def hidden(guest: Machine) -> bool:
    """Whether a VF was hidden from cloud-init in this boot."""
    unit = "journalctl --boot --unit guestagent-hide.service --output cat"
    return "hidden from cloud-init" in guest.run(f"{unit} || true")


def assert_cloud_init_did_its_work(guest: Machine) -> None:
    """Hold user, key and command of the user-data against the guest."""
    assert "status: done" in guest.run("cloud-init status --wait || true", timeout_s=180)
    guest.run("id someone && test -e /var/tmp/runcmd-was-here")
    assert KEY in guest.run("cat ~someone/.ssh/authorized_keys")
    assert (
        guest.run("systemctl list-units --failed --no-legend 'cloud-*' guestagent-hide.service")
        == ""
    )


def test_first_boot_with_both_nics_and_what_follows(guests: Guests) -> None:
    guest = guests.boot(setup(Suite.TRIXIE))
    guest.wait_ready(timeout_s=BOOT_S)
    assert_cloud_init_did_its_work(guest)
    assert hidden(guest)
    first = wait_on_vf(guest, PAIR)
    wait_converged(guest)

    # cloud-init's hotplug hook is armed, and not for the VF.
    guest.run("grep --quiet hook /etc/udev/rules.d/*-cloud-init-hook-hotplug.rules")
    guest.unplug_vf(PAIR)
    wait_on_standby(guest, PAIR)
    guest.plug_vf(PAIR)
    assert wait_on_vf(guest, PAIR).name == first.name
    assert guest.run("journalctl --boot --identifier cloud-init-hotplugd --output cat") == ""

    guest.reboot()
    assert not hidden(guest), "the instance is known"
    assert wait_on_vf(guest, PAIR).name == first.name
    assert_cloud_init_did_its_work(guest)


def test_what_hides_a_vf_cannot_lose_it(guests: Guests) -> None:
    guest = guests.start()
    guest.run("systemctl stop guestagent")
    unit = "hide-by-hand"

    def begin() -> None:
        guest.run(f"systemd-run --unit {unit} --collect --property Type=notify guestagent hide")

    def vf_is_seen() -> bool:
        return look(guest).vf(PAIR) is not None

    guest.plug_vf(PAIR)
    wait_until("the guest has the VF", vf_is_seen, timeout_s=HIDDEN_S)
    begin()
    assert not vf_is_seen()
    guest.run(f"systemctl kill --signal KILL {unit}")
    wait_until("the VF is back after a crash", vf_is_seen, timeout_s=HIDDEN_S)

    guest.run(f"systemctl stop {unit}; systemctl reset-failed")
    begin()
    assert not vf_is_seen()
    guest.unplug_vf(PAIR)
    assert not guest.has_device(PAIR.vf), "a hidden VF can be unplugged"
    guest.plug_vf(PAIR)
    log = f"journalctl --unit {unit} --output cat | grep --count 'hidden from cloud-init'"
    wait_until("one that is plugged meanwhile is hidden as well",
               lambda: guest.execute(log).stdout.strip() == "3", timeout_s=HIDDEN_S)  # fmt: skip
    assert not vf_is_seen()

    guest.run("mkdir -p /run/cloud-init && touch /run/cloud-init/result.json")
    wait_until("the VF is back when cloud-init has finished", vf_is_seen, timeout_s=HIDDEN_S)
    assert guest.execute(f"systemctl is-failed {unit}").code != 0
    guest.run("systemctl start guestagent")
    wait_on_vf(guest, PAIR)
