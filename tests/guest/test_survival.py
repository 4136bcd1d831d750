"""The agent is not in the data path, and it may die at any moment."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from guestagent.guest.core.journal_ids import JournalId
from lab.machine.guests import Freezer, Guests
from lab.machine.machine import Machine
from lab.machine.setup import Setup
from lab.network.wires import Network
from lab.probe.probe import Probe
from tests.guest.seen import (
    KILLED_S,
    NOW,
    Bond,
    assert_becomes,
    assert_nothing_lost,
    configuration,
    configure,
    look,
    wait_converged,
    wait_nics,
    wait_on_standby,
    wait_on_vf,
)

SEED = 20_26
RANDOM_KILLS = 4

# systemd's own limit on restarts would end these tests, and its second of rest lengthen them.
QUICK = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartSec=100ms\n"
# After what it has done, not after what it says at its start: killed there each time, it gets
# nowhere.
KILLER = f"""
journalctl --follow --no-tail --since=@$1 --output=cat \\
    _SYSTEMD_UNIT=guestagent.service MESSAGE_ID={JournalId.CHANGED} |
while read -r line; do systemctl kill --signal=KILL guestagent; echo "killed after: $line"; done
"""


def restarted_quickly(guest: Machine) -> None:
    """Take the limits off restarting the agent."""
    guest.write_file("/run/systemd/system/guestagent.service.d/quick.conf", QUICK)
    guest.run("systemctl daemon-reload")


def adopted(guest: Machine) -> tuple[str, frozenset[tuple[str, str]], frozenset[str]]:
    """Wait for the end of an adoption and return what must not depend on the way there."""
    bond: Bond = wait_on_vf(guest)
    status = wait_converged(guest)
    assert (status["pending"], status["left_alone"], status["last_error"]) == ([], [], None)
    assert_becomes(lambda: look(guest).bonds[0].receives_on_both, expected=False)
    files = guest.run("cat /run/systemd/network/05-guestagent-* /var/lib/guestagent/*.json")
    return configuration(guest) + files, bond.options, bond.addresses


@contextmanager
def killer(guest: Machine) -> Iterator[None]:
    """Kill the agent after each of its steps."""
    guest.write_file("/run/killer", KILLER)
    guest.run(f"systemd-run --quiet --unit=killer bash /run/killer {NOW}")
    yield
    guest.run("systemctl stop killer")


def test_an_agent_that_is_killed_after_every_step_comes_to_the_same_end(
    guests: Guests, freezer: Freezer, network: Network, logs: Path
) -> None:
    frozen = freezer.frozen(Setup())
    with Machine.thaw(frozen, network=network, logs=logs, name="calm") as calm:
        configure(calm, "Name=en*")
        calm.plug_vf()
        expected = adopted(calm)

    guest = guests.start()
    configure(guest, "Name=en*")
    restarted_quickly(guest)
    with Probe(network) as probe:
        probe.start(guest)
        with killer(guest):
            guest.plug_vf()
            wait_on_vf(guest, timeout_s=KILLED_S)
        result = probe.stop(guest)
    killed = guest.run("journalctl --output=cat --unit killer | grep 'killed after'")
    print(killed, {flow.name: (flow.sent, len(flow.lost)) for flow in result.flows})
    assert killed.count("killed after") >= 5
    assert_becomes(lambda: adopted(guest), expected)
    assert_nothing_lost(result)


def test_an_agent_that_is_killed_at_any_moment_comes_to_the_same_end(guest: Machine) -> None:
    restarted_quickly(guest)
    guest.plug_vf()
    expected = adopted(guest)
    moments = random.Random(SEED)  # noqa: S311 - moments, not secrets
    for _ in range(RANDOM_KILLS):
        guest.unplug_vf()
        wait_on_standby(guest)
        guest.plug_vf()
        time.sleep(moments.uniform(0, 1.5))
        guest.run("systemctl kill --signal=KILL guestagent")
        assert_becomes(lambda: adopted(guest), expected)


def test_a_vf_that_goes_while_the_agent_is_dead_is_missed_by_nobody(guest: Machine) -> None:
    guest.plug_vf()
    wait_on_vf(guest)
    wait_converged(guest)
    guest.run("systemctl stop guestagent")
    guest.unplug_vf()
    wait_on_standby(guest)
    guest.plug_vf(bus="rp2")
    wait_nics(guest, 2)
    guest.run("ping -c 1 -W 30 198.18.0.1")
    guest.run("systemctl start guestagent")
    wait_on_vf(guest)


def test_what_is_done_to_the_agent_loses_nothing(guest: Machine, network: Network) -> None:
    guest.plug_vf()
    wait_on_vf(guest)
    wait_converged(guest)
    before = wait_on_vf(guest)
    with Probe(network) as probe:
        probe.start(guest)
        for change in (
            "systemctl stop guestagent && systemctl start guestagent",
            "systemctl restart guestagent",
            "systemctl kill --signal=KILL guestagent",
        ):
            guest.run(change, timeout_s=120)
            wait_converged(guest)
        result = probe.stop(guest)
    print({flow.name: (flow.sent, len(flow.lost)) for flow in result.flows}, result.tcp)
    assert_nothing_lost(result)
    assert {port.kind for port in result.active_ports} == {"vf"}
    assert wait_on_vf(guest) == before
