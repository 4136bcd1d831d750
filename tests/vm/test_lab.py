"""The lab itself: two QEMUs and a migration between them, without agent or host helper."""

from __future__ import annotations

import subprocess

from lab.base.waiting import wait_until
from lab.machine.guests import Guests
from lab.machine.machine import Machine
from lab.network.wires import Network


def test_a_guest_migrates_with_its_memory_disk_and_network(
    guest: Machine, guests: Guests, network: Network
) -> None:
    destination = guests.destination(guest)
    guest.write_file("/var/tmp/disk", "written before")
    guest.write_file("/run/memory", "written before")
    guest.migrate_to(destination)
    wait_until(
        "the source has let go of it",
        lambda: guest.qmp("query-status")["status"] == "postmigrate",
        timeout_s=60.0,
    )
    assert destination.qmp("query-status")["status"] == "running"
    assert destination.run("cat /var/tmp/disk /run/memory") == "written before" * 2
    destination.run("echo 3 > /proc/sys/vm/drop_caches && cat /var/tmp/disk")
    address = guest.setup.pairs[0].addresses[0].split("/")[0]
    ping = network.peer("ping", "-c", "1", "-W", "30", address)
    assert subprocess.run(ping, check=False, capture_output=True).returncode == 0
