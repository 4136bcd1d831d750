"""The PCI devices of a fake QEMU, as QOM and query-pci show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_PORTS = 4


@dataclass(slots=True, kw_only=True)
class PciTree:
    """Four root ports, a standby NIC on the first and the last, and the VFs that are plugged."""

    vfs: dict[str, dict[str, Any]]
    fixed_ports: set[str]
    moved_ports: int

    @property
    def _all(self) -> dict[str, dict[str, Any]]:
        """All devices with their places: the ports and standbys of every guest, and the VFs."""
        ports = {
            f"rp{n}": {"driver": "pcie-root-port", "bus": "pcie.0", "slot": n + self.moved_ports}
            for n in range(1, _PORTS + 1)
        }
        standbys = {
            f"net{n}": {
                "driver": "virtio-net-pci",
                "bus": ("rp1", "rp4")[n],
                "mac": f"52:54:00:aa:00:0{n + 1}",
            }
            for n in range(2)
        }
        return ports | standbys | self.vfs

    def qom_list(self, path: str) -> object:
        """Answer qom-list."""
        if path == "/machine/peripheral":
            children = [
                {"name": name, "type": f"child<{device['driver']}>"}
                for name, device in self._all.items()
            ]
            return [{"name": "type", "type": "string"}, *children]
        if path == "/machine/peripheral-anon":
            return [{"name": "type", "type": "string"}]
        is_port = self._all[path.rpartition("/")[2]]["driver"] == "pcie-root-port"
        names = ("type", "addr", "multifunction", "parent_bus")
        return [
            {"name": name, "type": "str"}
            for name in (*names, *(("hotplug", "chassis") if is_port else ("mac",)))
        ]

    def qom_get(self, path: str, key: str) -> object:
        """Answer qom-get."""
        name = path.rpartition("/")[2]
        device = self._all[name]
        values = {
            "type": device["driver"],
            "addr": device.get("slot", 0) << 3,
            "parent_bus": f"/machine/peripheral/{device['bus']}/{device['bus']}",
            "mac": device.get("mac", ""),
            "hotplug": name not in self.fixed_ports,
        }
        return values[key]

    def query_pci(self) -> object:
        """Answer query-pci."""
        nics = [(name, each) for name, each in self._all.items() if "slot" not in each]
        ports = [(name, each["slot"]) for name, each in self._all.items() if "slot" in each]
        return [{"bus": 0, "devices": [_bridge(name, slot, nics) for name, slot in ports]}]


def _bridge(name: str, slot: int, nics: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return a port as query-pci has it, with what is behind it."""
    behind = [
        {
            "bus": slot,
            "slot": 0,
            "function": 0,
            "qdev_id": nic,
            "class_info": {"class": 0x0200, "desc": "Ethernet controller"},
        }
        for nic, each in nics
        if each["bus"] == name
    ]
    return {
        "bus": 0,
        "slot": slot,
        "function": 0,
        "qdev_id": name,
        "class_info": {"class": 0x0604, "desc": "PCI bridge"},
        "pci_bridge": {"bus": {"secondary": slot}, "devices": behind},
    }
