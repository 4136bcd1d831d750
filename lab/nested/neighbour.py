"""Somebody else on a card: one of its VFs, in a namespace of the host, with the host's driver."""

from __future__ import annotations

from lab.machine.machine import Machine
from lab.network.wires import Subnet

NAMESPACE = "neighbour"
STATION = 20
MAC = "52:54:00:5d:00:01"

_MOVE_IN = f"""
card=$(readlink -f /sys/class/net/$PF/device)
vf=$(basename $(readlink -f $card/virtfn$INDEX))
ip link set $PF vf $INDEX mac {MAC}
modprobe igbvf
echo igbvf >/sys/bus/pci/devices/$vf/driver_override
echo $vf >/sys/bus/pci/drivers_probe
until name=$(ls /sys/bus/pci/devices/$vf/net) && [ "$name" ]; do sleep 0.1; done
udevadm settle
name=$(ls /sys/bus/pci/devices/$vf/net)
ip netns add {NAMESPACE}
ip link set $name netns {NAMESPACE} name eth0
ip -n {NAMESPACE} address add {Subnet.of_pair(0).addresses(STATION)[0]} dev eth0
ip -n {NAMESPACE} link set eth0 up
until [ "$(ip netns exec {NAMESPACE} cat /sys/class/net/eth0/carrier)" = 1 ]; do sleep 0.1; done
"""


class NeighbourGuest:
    """VF ``index`` of ``pf``, which stays where it is put until the host ends."""

    def __init__(self, host: Machine, *, pf: str, index: int) -> None:
        self._host = host
        self._pf, self._index = pf, index
        host.run(f"PF={pf} INDEX={index}\n{_MOVE_IN}", timeout_s=120)

    def tag(self, vlan: int) -> None:
        """Put the VF into a VLAN, or with 0 into none."""
        self._host.run(f"ip link set {self._pf} vf {self._index} vlan {vlan}")

    def answered(self, address: str, *, pings: int) -> int:
        """Return how many of so many echo requests to an address are answered."""
        ping = f"ip netns exec {NAMESPACE} ping -nq -c {pings} -i 0.2 -W 10 {address}"
        said = self._host.execute(ping, timeout_s=120).stdout
        return int(said.partition(" received")[0].rpartition(" ")[2])
