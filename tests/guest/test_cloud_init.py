"""First boots under cloud-init with a VF present, and what hides it from that.

``./dev test images`` has Debian 12, and a first boot without the VF.
"""

from __future__ import annotations

from lab.base.waiting import wait_until
from lab.image.flavour import Suite
from lab.machine.guests import Guests
from tests.guest.first_boot import PAIR, tell
from tests.guest.seen import look, wait_on_vf

HIDDEN_S = 120.0


def test_a_first_boot_with_both_nics_applies_its_user_data(guests: Guests) -> None:
    tell(Suite.TRIXIE, guests)


def test_what_hides_a_vf_cannot_lose_it(guests: Guests) -> None:
    guest = guests.start()
    guest.run("systemctl stop guestagent")
    unit = "hide-by-hand"

    def begin() -> None:
        guest.run(f"systemd-run --unit {unit} --collect --property Type=notify guestagent hide")

    def vf_is_seen() -> bool:
        return look(guest).vf(PAIR) is not None

    def wait_told(times: int) -> None:
        log = f"journalctl --unit {unit} --output cat | grep --count 'hidden from cloud-init'"
        wait_until(
            f"a VF was hidden for the {times}. time",
            lambda: guest.execute(log).stdout.strip() == str(times),
            timeout_s=HIDDEN_S,
        )

    guest.plug_vf(PAIR)
    wait_until("the guest has the VF", vf_is_seen, timeout_s=HIDDEN_S)
    begin()
    assert not vf_is_seen()
    wait_told(1)  # what the journal has not read of a process is not of its unit after its end
    guest.run(f"systemctl kill --signal KILL {unit}")
    wait_until("the VF is back after a crash", vf_is_seen, timeout_s=HIDDEN_S)

    guest.run(f"systemctl stop {unit}; systemctl reset-failed")
    begin()
    assert not vf_is_seen()
    guest.unplug_vf(PAIR)
    assert not guest.has_device(PAIR.vf), "a hidden VF can be unplugged"
    guest.plug_vf(PAIR)
    wait_told(3)  # one that is plugged meanwhile is hidden as well
    assert not vf_is_seen()

    guest.run("mkdir -p /run/cloud-init && touch /run/cloud-init/result.json")
    wait_until("the VF is back when cloud-init has finished", vf_is_seen, timeout_s=HIDDEN_S)
    assert guest.execute(f"systemctl is-failed {unit}").code != 0
    guest.run("systemctl start guestagent")
    wait_on_vf(guest, PAIR)
