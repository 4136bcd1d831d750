"""Undo: the NIC has its configuration back, live, and the pair stays apart until it is adopted."""

from __future__ import annotations

from guestagent.guest.core.journal_ids import JournalId
from lab.base.waiting import wait_until
from lab.machine.guests import Guests
from lab.machine.machine import Machine
from lab.machine.setup import NicPair, Setup
from lab.network.wires import Network
from tests.guest.seen import (
    CONVERGED_S,
    GAP_S,
    KILLED_S,
    NOW,
    assert_becomes,
    assert_nothing_lost,
    assert_one_gap,
    configuration,
    configure,
    look,
    probed,
    take_apart,
    wait_converged,
    wait_on_standby,
    wait_on_vf,
)

PAIR = NicPair(vf_at_boot=True)
QUICK = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartSec=100ms\n"
# After the steps alone, and once after each: an agent that is killed whenever it says what it
# waits for, or whenever it has told the network stack once more, never gets any further.
KILLER = f"""
declare -A seen
journalctl --follow --no-tail --since=@$1 --output=cat \\
    _SYSTEMD_UNIT=guestagent.service MESSAGE_ID={JournalId.CHANGED} |
while read -r step; do
    [ -z "${{seen[$step]-}}" ] || continue
    seen[$step]=1
    systemctl kill --signal=KILL guestagent
    echo "killed after: $step"
done
"""


def without_vf(guest: Machine) -> str:
    """Return the configuration but for the VF, which is left alone."""
    vf = next(nic.name for nic in look(guest).nics if not nic.virtio)
    return "\n".join(line for line in configuration(guest).splitlines() if vf not in line)


def bonded(guest: Machine) -> str:
    """Bring the pair onto its VF; return the configuration from before that."""
    configure(guest, "Name=en*1s0")
    before = configuration(guest)
    guest.plug_vf()
    wait_on_vf(guest)
    wait_converged(guest)
    return before


def assert_apart(guest: Machine) -> None:
    """The VF is there and unconfigured, no bond is, and the agent says why."""
    seen = look(guest)
    vf = next(nic for nic in seen.nics if not nic.virtio)
    assert not seen.bonds
    assert (vf.up, vf.upper, vf.addresses) == (False, None, frozenset())
    assert "none" not in guest.run(f"ip -details link show {vf.name} | grep -o 'addrgenmode \\w*'")
    (left,) = guest.run_json("guestagent status --json")["left_alone"]
    assert left["reason"] == "taken apart by `guestagent undo`"
    assert guest.run("guestagent undo").strip().startswith("no bond")


def test_undo_loses_nothing_and_lasts_until_the_pair_is_adopted(
    guest: Machine, network: Network
) -> None:
    before = bonded(guest)
    planned = guest.run("guestagent undo --dry-run")
    assert "out of bond0" in planned
    assert look(guest).on_vf(guest.setup.pairs[0]), "a preview changes nothing"
    # Somebody triggers udev while the standby is a port: it is marked as one.
    guest.run("udevadm trigger --settle")

    assert_nothing_lost(probed(network, guest, lambda: take_apart(guest)))
    assert_becomes(lambda: without_vf(guest), before)
    assert_apart(guest)

    def disturb() -> None:
        guest.run("systemctl restart guestagent && networkctl reload")
        guest.run("systemctl restart systemd-networkd && networkctl reconfigure enp1s0")

    assert_nothing_lost(probed(network, guest, disturb))
    wait_converged(guest)
    assert_becomes(lambda: without_vf(guest), before)
    assert_apart(guest)

    def adopt() -> None:
        guest.run("guestagent adopt")
        wait_on_vf(guest)

    assert_nothing_lost(probed(network, guest, adopt))
    wait_converged(guest)
    guest.unplug_vf()
    wait_on_standby(guest)
    took_s: list[float] = []
    result = probed(network, guest, lambda: took_s.append(take_apart(guest)))
    # Nothing carries from "take out of the bond" to "move addresses": four of some ten steps of
    # the undo, each of which takes as long as this machine lets the guest take.
    assert_one_gap(result, within_s=max(GAP_S, *took_s))
    assert_becomes(lambda: configuration(guest), before)


def test_an_undo_that_is_killed_after_every_step_comes_to_its_end(
    guest: Machine, network: Network
) -> None:
    before = bonded(guest)
    guest.write_file("/run/systemd/system/guestagent.service.d/quick.conf", QUICK)
    guest.run("systemctl daemon-reload")
    guest.write_file("/run/killer", KILLER)

    def undo() -> None:
        guest.run(f"systemd-run --quiet --unit=killer bash /run/killer {NOW}")
        # The agent is killed at the first step; those that are started after it go on.
        guest.execute("guestagent undo")
        wait_until("the bond is gone", lambda: not look(guest).bonds, timeout_s=KILLED_S)
        guest.run("systemctl stop killer")

    result = probed(network, guest, undo)
    killed = guest.run("journalctl --output=cat --unit=killer | grep '^killed after'")
    print(killed)
    assert len(killed.splitlines()) >= 3
    assert_nothing_lost(result)
    wait_converged(guest)
    assert_becomes(lambda: without_vf(guest), before)
    assert_apart(guest)


def test_a_boot_whose_early_unit_fails_has_its_network_and_the_next_bonds_what_undo_took_apart(
    guests: Guests,
) -> None:
    allowed = "/var/lib/agent-may-run"
    drop_ins = {
        "guestagent-early.service.d/may.conf": f"[Service]\nExecStartPre=test -e {allowed}\n",
        "guestagent.service.d/may.conf": f"[Unit]\nConditionPathExists={allowed}\n",
    }
    files = {f"etc/systemd/system/{name}": content for name, content in drop_ins.items()}
    guest = guests.boot(Setup(pairs=(PAIR,), files=files))
    guest.wait_ready()
    ping = f"ping -c 1 -W 30 {PAIR.peer_addresses[0].split('/')[0]}"
    wait_until(
        "the network is there", lambda: guest.execute(ping).code == 0, timeout_s=CONVERGED_S
    )
    failed = guest.run("systemctl list-units --failed --plain --no-legend | cut -d ' ' -f 1")
    assert failed.split() == ["guestagent-early.service"]
    assert_becomes(lambda: len(look(guest).standby(PAIR).addresses), 2)
    assert not look(guest).bonds

    guest.run(f"touch {allowed} && systemctl start guestagent")
    wait_on_vf(guest, PAIR)
    take_apart(guest)
    assert_apart(guest)
    guest.run(ping)
    guest.reboot()
    wait_on_vf(guest, PAIR)
