"""Reads the guest's PCI tree: addresses from ``query-pci``, device properties from QOM.

query-pci gives the bus numbers that the guest's firmware programmed, so
addresses are the guest's own. Until the firmware has numbered a bus, query-pci
shows nothing behind it (Q: hw/pci/pci-qmp-cmds.c, qmp_query_pci_bridge); such
devices are listed without an address.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from guestagent.host.hypervisor.reply import Reply
from guestagent.host.model import PciDevice, PciPort, Topology

Query = Callable[[str, Mapping[str, object]], Awaitable[Reply]]

_CLASS_ETHERNET = 0x0200
_CONTAINERS = ("/machine/peripheral", "/machine/peripheral-anon")


@dataclass(frozen=True, slots=True, kw_only=True)
class _QomDevice:
    """The properties of a PCI device in QOM; ``hotplug`` is None for a device that is no port."""

    driver: str
    id: str | None
    bus: str
    devfn: int
    mac: str | None
    hotplug: bool | None


async def read_topology(query: Query) -> Topology:
    """Read all PCI devices and ports; raises what ``query`` raises, and PeerError."""
    objects = [
        device
        for container in _CONTAINERS
        for child in (await query("qom-list", {"path": container})).items()
        if child.string("type").startswith("child<")
        if (device := await _qom_device(query, container, child.string("name"))) is not None
    ]
    tree = _Tree(objects=objects)
    for bus in (await query("query-pci", {})).items():
        tree.walk(bus.items("devices"), port=None)
    tree.add_hidden()
    return Topology(devices=tuple(tree.devices), ports=tuple(tree.ports))


async def devices_with_id(query: Query) -> frozenset[str]:
    """Return the ids of all devices that have one."""
    listed = await query("qom-list", {"path": _CONTAINERS[0]})
    return frozenset(
        child.string("name")
        for child in listed.items()
        if child.string("type").startswith("child<")
    )


async def _qom_device(query: Query, container: str, name: str) -> _QomDevice | None:
    """Return the device's properties, None when it is not a PCI device."""
    path = f"{container}/{name}"
    has = {item.string("name") for item in (await query("qom-list", {"path": path})).items()}
    if not {"addr", "multifunction", "parent_bus"} <= has:  # Q: hw/pci/pci.c, pci_props
        return None

    async def get(key: str) -> Reply:
        return await query("qom-get", {"path": path, "property": key})

    return _QomDevice(
        driver=(await get("type")).string(),
        id=name if container == _CONTAINERS[0] else None,
        bus=(await get("parent_bus")).string().rpartition("/")[2],
        devfn=(await get("addr")).integer(),
        mac=(await get("mac")).string().lower() if "mac" in has else None,
        # Q: hw/pci/pcie_port.c, pcie_slot_props
        hotplug=(await get("hotplug")).boolean() if {"hotplug", "chassis"} <= has else None,
    )


@dataclass(slots=True, kw_only=True)
class _Tree:
    objects: list[_QomDevice]
    devices: list[PciDevice] = field(default_factory=list)
    ports: list[PciPort] = field(default_factory=list)

    def walk(self, level: Iterable[Reply], *, port: str | None) -> None:
        """Add the devices of one bus and of those behind it."""
        for item in level:
            address = (
                f"0000:{item.integer('bus'):02x}"
                f":{item.integer('slot'):02x}.{item.integer('function'):x}"
            )
            known = self._known(item, port)
            kind = item.object("class_info")
            code = kind.integer("class")
            qdev_id = item.string("qdev_id") or None
            self.devices.append(
                PciDevice(
                    id=qdev_id,
                    driver=known.driver if known else None,
                    mac=known.mac if known else None,
                    address=address,
                    port=port,
                    description=kind.optional_string("desc") or f"class {code:04x}",
                    is_nic=code == _CLASS_ETHERNET,
                )
            )
            if item.has("pci_bridge"):
                self._enter(item.object("pci_bridge"), qdev_id, address, known)

    def add_hidden(self) -> None:
        """Add the devices that have an id and no address yet."""
        shown = {device.id for device in self.devices}
        ports = {port.id for port in self.ports}
        for known in self.objects:
            if known.id is not None and known.id not in shown:
                self.devices.append(
                    PciDevice(
                        id=known.id,
                        driver=known.driver,
                        mac=known.mac,
                        address=None,
                        port=known.bus if known.bus in ports else None,
                        description=known.driver,
                        is_nic=known.mac is not None,
                    )
                )

    def _enter(
        self, bridge: Reply, qdev_id: str | None, address: str, known: _QomDevice | None
    ) -> None:
        if qdev_id is not None and known is not None and known.hotplug is not None:
            number = bridge.object("bus").integer("secondary")
            behind = (each for each in self.objects if each.bus == qdev_id)
            occupant = next(behind, None)
            self.ports.append(
                PciPort(
                    id=qdev_id,
                    address=address,
                    slot_address=f"0000:{number:02x}:00.0" if number else None,
                    device=None if occupant is None else occupant.id or occupant.driver,
                    hotplug=known.hotplug,
                )
            )
        if bridge.has("devices"):
            self.walk(bridge.items("devices"), port=qdev_id)

    def _known(self, item: Reply, port: str | None) -> _QomDevice | None:
        """Find the object of a device: by its id, or by its place when it has none."""
        qdev_id = item.string("qdev_id")
        if qdev_id:
            return next((known for known in self.objects if known.id == qdev_id), None)
        devfn = item.integer("slot") << 3 | item.integer("function")
        buses = {known.id for known in self.objects}
        for known in self.objects:
            on_this_bus = known.bus == port if port else known.bus not in buses
            if known.id is None and on_this_bus and known.devfn == devfn:
                return known
        return None
