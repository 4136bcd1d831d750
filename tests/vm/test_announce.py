"""After a migration made on the standby the network knows at once where the guest is."""

from __future__ import annotations

from pathlib import Path

from lab.base.waiting import wait_until
from lab.machine.guests import Guests
from lab.machine.machine import Machine
from lab.network.wires import Network
from tests.guest.seen import wait_converged, wait_on_vf
from tests.vm.helper import describe, run
from tests.vm.learning import Listener

VLAN = 5
LEARNED_S = 5.0
"""A bound that a busy machine keeps too, on which guests are twenty times slower; the figure
itself is printed (54 ms on a quiet one)."""
LISTEN_S = 60.0
VLAN_ABOVE = (
    f"ip link add link bond0 name bond0.{VLAN} type vlan id {VLAN} && "
    f"ip address add 198.19.0.10/24 dev bond0.{VLAN} && ip link set bond0.{VLAN} up"
)


def test_a_switch_learns_the_new_host_before_the_guest_has_anything_to_say(
    guest: Machine, guests: Guests, network: Network, tmp_path: Path
) -> None:
    """Untagged and on a VLAN above the bond; no program in the guest sends anything."""
    guest.plug_vf()
    wait_on_vf(guest)
    wait_converged(guest)
    guest.run(VLAN_ABOVE)
    guest.run("sleep 5")  # MLD and duplicate address detection of the VLAN's start end
    destination = guests.destination(guest)
    description = describe(tmp_path, guest, destination, "destination_vf = false")
    with Listener(network, guest.setup.pairs[0].mac) as switch:
        report = run(description, "migrate")
        assert report["result"] == "done", report

        def learned() -> dict[int, list[float]] | None:
            came = [frame for frame in switch.frames() if frame.port == "downB"]
            at_s = {v: [frame.at_s for frame in came if frame.vlan == v] for v in (0, VLAN)}
            return at_s if all(at_s.values()) else None

        heard_s = wait_until("the switch has learned both", learned, timeout_s=LISTEN_S)
    assert heard_s is not None
    (resumed_s,) = (moment["at_s"] for moment in report["moments"] if moment["name"] == "resume")
    late_s = {vlan: [at_s - resumed_s for at_s in times] for vlan, times in heard_s.items()}
    print({vlan: [round(at_s, 3) for at_s in times] for vlan, times in late_s.items()})
    assert max(min(times) for times in late_s.values()) <= LEARNED_S
