"""The operator's policy: shown before it is taken, and followed."""

from __future__ import annotations

from lab.base.waiting import wait_until
from lab.machine.machine import Machine
from lab.machine.setup import NicPair
from tests.guest.seen import CONVERGED_S, look, wait_converged, wait_on_standby, wait_on_vf

PAIR = NicPair()
NEW = "/tmp/new.toml"
ALWAYS = f"""
bond = "always"
[pair."{PAIR.mac.upper()}"]
bond-name = "lan0"
miimon-ms = 50
"""


def shown(guest: Machine, configuration: str) -> str:
    """Return the agent's plan under another configuration."""
    guest.write_file(NEW, configuration)
    return guest.run(f"guestagent plan --config {NEW}")


def take(guest: Machine, name: str) -> None:
    """Take the configuration that was shown, as a drop-in."""
    drop_ins = "/etc/guestagent/guestagent.toml.d"
    guest.run(f"mkdir -p {drop_ins} && mv {NEW} {drop_ins}/{name}")


def test_a_policy_is_shown_before_it_is_taken_and_then_followed(guest: Machine) -> None:
    assert guest.run("guestagent plan").strip() == "nothing to do"
    assert "joins a bond when the VF comes or at the next boot" in shown(guest, ALWAYS)
    take(guest, "10-always.toml")
    guest.reboot()
    bond = wait_on_standby(guest)
    assert bond.name == "lan0"
    assert ("miimon", "50") in bond.options
    guest.run("! test -e /var/lib/guestagent/pairs.json")

    guest.plug_vf()
    wait_on_vf(guest)
    wait_converged(guest)
    both = f"{ALWAYS}[bond]\nannouncements = 7\n".replace('bond = "always"', "")
    assert "announce 7 times" in shown(guest, both)
    take(guest, "20-announcements.toml")
    guest.run("systemctl restart guestagent")
    wait_until(
        "the option is set",
        lambda: ("num_peer_notif", "7") in look(guest).bonds[0].options,
        timeout_s=CONVERGED_S,
    )
    assert look(guest).on_vf(PAIR)

    for configuration, reason in (
        (f'exclude = ["{PAIR.mac}"]', "excluded by the configuration"),
        ('exclude = ["virtio_net"]', "excluded by the configuration"),
        ('bond = ["0000:7f:00.0"]', "not among the NICs"),
    ):
        said = shown(guest, configuration)
        assert reason in said
        assert "guestagent undo --bond lan0" in said
    wrong = guest.execute(f"echo 'exclud = []' > {NEW}; guestagent --config {NEW} plan")
    assert (wrong.code, f"{NEW}: unknown key exclud" in wrong.stderr) == (2, True)
    assert look(guest).on_vf(PAIR)
