"""A first boot under cloud-init with a VF present; what it must not cost."""

from __future__ import annotations

from lab.image.flavour import Flavour, Stack, Suite
from lab.machine.guests import Guests
from lab.machine.machine import Machine
from lab.machine.setup import NicPair, Setup
from tests.guest.seen import wait_converged, wait_on_standby, wait_on_vf

PAIR = NicPair(vf_at_boot=True)
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
BOOT_S = 600.0
"""Of a first boot, on a busy machine."""


def setup(suite: Suite, pair: NicPair) -> Setup:
    """Return a guest whose disk has a NoCloud seed."""
    flavour = Flavour(suite=suite, stack=Stack.CLOUD_INIT, dhcp=False)
    seed = flavour.seed((pair,), user_data=USER_DATA)
    return Setup(flavour=flavour, pairs=(pair,), network_files=seed, memory_mib=768)


def hidden(guest: Machine) -> bool:
    """Whether a VF was hidden from cloud-init in this boot."""
    unit = "journalctl --boot --unit guestagent-hide.service --output cat"
    return "hidden from cloud-init" in guest.run(f"{unit} || true")


def assert_cloud_init_did_its_work(guest: Machine) -> None:
    """Hold user, key and command of the user-data against the guest."""
    assert "status: done" in guest.run("cloud-init status --wait || true", timeout_s=BOOT_S)
    guest.run("id someone && test -e /var/tmp/runcmd-was-here")
    assert KEY in guest.run("cat ~someone/.ssh/authorized_keys")
    assert (
        guest.run("systemctl list-units --failed --no-legend 'cloud-*' guestagent-hide.service")
        == ""
    )


def tell(suite: Suite, guests: Guests) -> None:
    """Boot for the first time with both NICs. Raises AssertionError where it goes wrong."""
    guest = guests.boot(setup(suite, PAIR))
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
