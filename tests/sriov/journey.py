"""Journey of the guest inside, with the observations at each station.

A station is made when it is first asked for, after those before it: one test alone can run, and
all of them together make the journey once. Each notes how long it took.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lab.base.waiting import wait_until
from lab.demo.nested import PACE
from lab.machine.monitor import Json
from lab.machine.setup import NicPair
from lab.migration.phases import LossPhase, phases_of
from lab.nested.host import VFS, Hosts
from lab.nested.inside import Inside
from lab.nested.neighbour import NeighbourGuest
from lab.probe.probe import Probe, Result

PAIR = NicPair()
CALM_S = 3.0
PINGS = 20
SLOW = "bandwidth_limit_mib_per_s = 1\n"
OTHERS = "/run/others.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A migration under the probe."""

    report: Json
    seen: Result
    phases: tuple[LossPhase, ...]
    downtime_at_s: float

    def lost(self) -> dict[str, int]:
        """Return the packets lost, by phase."""
        return {phase.name: phase.lost for phase in self.phases}


class Journey:
    """The stations; ``hosts`` is where it takes place."""

    def __init__(self, hosts: Hosts, *, report: Path) -> None:
        """``report`` gets a line for each migration, with what was lost in which phase."""
        self.hosts = hosts
        self._report = report

    @cached_property
    def source(self) -> Inside:
        """The guest on host A, booted there, on its virtio NIC."""
        guest = self.hosts.start("a")
        self.hosts.wait_ready(guest)
        return guest

    @cached_property
    def on_vf(self) -> Json:
        """Status of the agent when the guest had got its VF."""
        report = self._helper("attach", self.hosts.describe(self.source))
        assert (report["result"], report["guest"]["confirmed"]) == ("done", True), report
        return self.hosts.wait_on_vf(self.source)

    @cached_property
    def failed(self) -> Json:
        """Report of the helper on a migration whose destination died on the way."""
        assert self.on_vf
        doomed = self.hosts.start("b", awaits_state=True)
        description = self.hosts.describe(self.source, doomed, more_migration=SLOW)
        with ThreadPoolExecutor(1) as pool:
            helper = pool.submit(self._helper, "migrate", description)
            wait_until(
                "the guest moves",
                lambda: self.source.qmp("query-migrate").get("status") == "active",
                timeout_s=600,
            )
            doomed.kill()
            report = helper.result()
        doomed.close()
        return report

    @cached_property
    def destination(self) -> Inside:
        """The guest on host B; ``moved`` is how it came there."""
        assert self.moved.report["running_on"] == "destination"
        return self._destination

    @cached_property
    def moved(self) -> Moved:
        """The migration from A to B, with a VF at both ends."""
        assert self.failed
        self._destination = self.hosts.start("b", awaits_state=True)
        description = self.hosts.describe(self.source, self._destination)
        return self._migrate(description, self._destination, self.hosts.wait_on_vf)

    @cached_property
    def returned(self) -> Moved:
        """The migration from B to A, where no VF was free."""
        back_on = self.destination
        pairs = "".join(
            f'[[pair]]\nmac = "52:54:00:5c:00:{number:02x}"\nstandby = "nic{number}"\n'
            f'vf = {{ driver = "vfio-pci", id = "vf{number}", bus = "rp{number}" }}\n'
            f'[pair.sriov]\npf = "physA"\n'
            for number in range(VFS)
        )
        self.hosts.machine.write_file(OTHERS, f'name = "others"\n[source]\nqmp = "/none"\n{pairs}')
        claimed = self._helper("vf claim --reserve", OTHERS)
        assert len(claimed["vfs"]) == VFS, claimed
        self.source.close()
        self.back = self.hosts.start("a", awaits_state=True)
        description = self.hosts.describe(back_on, self.back)
        return self._migrate(description, self.back, self.hosts.wait_on_standby)

    @cached_property
    def neighbour(self) -> NeighbourGuest:
        """The last VF of host A, which nobody claims any more, beside the guest that came back."""
        assert self.returned.report["running_on"] == "destination"
        released = self._helper("vf release", OTHERS)
        assert len(released["vfs"]) == VFS, released
        self.destination.close()
        return NeighbourGuest(self.hosts.machine, pf=self.hosts.pfs["A"], index=VFS - 1)

    @cached_property
    def with_neighbour(self) -> Json:
        """Status of the agent when the guest had a VF beside its neighbour's."""
        self.neighbour.tag(0)
        report = self._helper("attach", self.hosts.describe(self.back))
        assert report["result"] == "done", report
        return self.hosts.wait_on_vf(self.back)

    def in_vlan(self, vlan: int) -> Json:
        """Give the guest that came back a VF in a VLAN; return what the agent said."""
        assert self.off_vf()["active"] == "standby"
        report = self._helper("attach", self.hosts.describe(self.back, sriov=f"vlan = {vlan}"))
        assert report["result"] == "done", report
        return self.hosts.wait_on_vf(self.back)

    def off_vf(self) -> Json:
        """Take the VF of the guest that came back; return what the agent said."""
        assert self.with_neighbour
        report = self._helper("detach", self.hosts.describe(self.back))
        assert report["result"] == "done", report
        return self.hosts.wait_on_standby(self.back)

    def _migrate(
        self, description: str, destination: Inside, arrived: Callable[[Inside], Json]
    ) -> Moved:
        pair = destination.setup.pairs[0]
        with Probe(self.hosts.network, pair=pair, pace=PACE) as probe:
            probe.start(self.source if destination.slot == "b" else self._destination)
            time.sleep(CALM_S)
            moved = self.hosts.migrate(description)
            downtime = moved.helper.completed()
            arrived(destination)
            time.sleep(CALM_S)
            seen = probe.stop(destination, pauses=[downtime])
        phases = phases_of(seen, moved.helper, margin_s=moved.margin_s)
        lost = ", ".join(f"{phase.name} {phase.lost}" for phase in phases)
        with self._report.open("a") as report_file:
            print(
                f"to host {destination.slot.upper()}: {seen.lost} of {seen.sent} packets lost"
                f" at {seen.rate_hz:g}/s in each flow: {lost}",
                file=report_file,
            )
        return Moved(report=moved.report, seen=seen, phases=phases, downtime_at_s=downtime.begin_s)

    def _helper(self, command: str, description: str) -> Json:
        begin_s = time.monotonic()
        report = self.hosts.helper(f"{command} {description}")
        print(f"{command}: {time.monotonic() - begin_s:.1f} s")
        return report

    def answered(self) -> int:
        """Return how many of ``PINGS`` echo requests of the peer the guest answers."""
        address = PAIR.addresses[0].split("/")[0]
        ping = self.hosts.network.peer("ping", *f"-nq -c {PINGS} -i 0.2 {address}".split())
        said = subprocess.run(ping, check=False, capture_output=True, text=True).stdout
        return int(said.partition(" received")[0].rpartition(" ")[2])

    def shown_vfs(self, side: str) -> tuple[tuple[str, int], ...]:
        """Return MAC address and VLAN (0: none) of each VF of a host, as iproute2 shows them."""
        (link,) = self.hosts.machine.ip("link", "show", "dev", self.hosts.pfs[side])
        return tuple((vf["address"], vlan_of(vf)) for vf in link["vfinfo_list"])

    def standby_packets(self, guest: Inside) -> int:
        """Return how many packets the host's end of the standby has carried."""
        counters = f"/sys/class/net/{guest.standby_link}/statistics"
        words = self.hosts.machine.run(f"cat {counters}/rx_packets {counters}/tx_packets")
        return sum(int(word) for word in words.split())


def vlan_of(vf: Json) -> int:
    """Return the VLAN of a VF as iproute2 shows it."""
    tags = vf.get("vlan_list") or [{"vlan": 0}]
    return int(tags[0].get("vlan", 0))
