"""PCI addresses in the guest, from query-pci and the object tree."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

from guestagent.host.hypervisor.qmp.pci import read_topology
from guestagent.host.hypervisor.reply import Reply
from guestagent.host.model import End, GuestInterface, QemuState, Topology
from guestagent.host.report import inspect
from tests.unit.host.support import MAC, vm


def device(qdev_id: str, slot: int, bus: int, kind: int = 0x0200, **more: object) -> object:
    return {
        "bus": bus,
        "slot": slot,
        "function": 0,
        "qdev_id": qdev_id,
        "class_info": {"class": kind},
        **more,
    }


def port(name: str, slot: int, secondary: int, *behind: object) -> object:
    bridge = {"bus": {"secondary": secondary}, "devices": list(behind)}
    return device(name, slot, 0, 0x0604, pci_bridge=bridge)


# As QEMU 10.0 answered for such a machine, shortened.
PCI = [
    {
        "bus": 0,
        "devices": [
            {
                "bus": 0,
                "slot": 0,
                "function": 0,
                "qdev_id": "",
                "class_info": {"class": 0x0600, "desc": "Host bridge"},
            },
            port("rp1", 1, 1, device("net0", 0, 1)),
            port("rp2", 2, 2, device("vf0", 0, 2)),
            port("rp3", 3, 3),
            port("rp4", 4, 4),
            device("", 5, 0),
        ],
    }
]
PORT = {
    "type": "pcie-root-port",
    "parent_bus": "/machine/q35/pcie.0",
    "hotplug": True,
    "chassis": 1,
}
QOM: dict[str, dict[str, object]] = {
    "/machine/peripheral/net0": {
        "type": "virtio-net-pci",
        "parent_bus": "/machine/peripheral/rp1/rp1",
        "addr": 0,
        "mac": MAC.upper(),
    },
    "/machine/peripheral/vf0": {
        "type": "vfio-pci",
        "parent_bus": "/machine/peripheral/rp2/rp2",
        "addr": 0,
    },
    **{f"/machine/peripheral/rp{n}": {**PORT, "addr": n << 3} for n in (1, 2, 3)},
    "/machine/peripheral/rp4": {**PORT, "addr": 4 << 3, "hotplug": False},
    "/machine/peripheral/serial0": {"type": "isa-serial", "iobase": 1},
    "/machine/peripheral-anon/device[0]": {
        "type": "virtio-net-pci",
        "parent_bus": "/machine/q35/pcie.0",
        "addr": 5 << 3,
        "mac": "52:54:00:00:00:09",
    },
}


BEFORE_FIRMWARE = [
    {"bus": 0, "devices": [port("rp1", 1, 0), port("rp2", 2, 0), port("rp3", 3, 0)]}
]


async def answer(command: str, arguments: Mapping[str, object]) -> Reply:
    if command == "query-pci":
        return Reply(PCI, origin=command)
    path = str(arguments["path"])
    if command == "qom-get":
        return Reply(QOM[path][str(arguments["property"])], origin=command)
    if path in QOM:
        properties = [*QOM[path], "multifunction"] if "addr" in QOM[path] else [*QOM[path]]
        return Reply([{"name": name, "type": "str"} for name in properties], origin=command)
    children = [
        {"name": known.rpartition("/")[2], "type": f"child<{values['type']}>"}
        for known, values in QOM.items()
        if known.rpartition("/")[0] == path
    ]
    return Reply([{"name": "type", "type": "string"}, *children], origin=command)


async def early_answer(command: str, arguments: Mapping[str, object]) -> Reply:
    pci = command == "query-pci"
    return Reply(BEFORE_FIRMWARE, origin=command) if pci else await answer(command, arguments)


def topology() -> Topology:
    return asyncio.run(read_topology(answer))


def inspection(directory: Path) -> inspect.Inspection:
    return inspect.Inspection(
        vm=vm(directory),
        view=QemuState(end=End.SOURCE, run_state="running"),
        topology=topology(),
        interfaces=(
            GuestInterface(name="bond0", mac=MAC, addresses=()),
            GuestInterface(name="enp1s0", mac=MAC, addresses=()),
        ),
    )


def test_every_nic_has_address_port_driver_and_mac() -> None:
    assert [
        (nic.id, nic.address, nic.port, nic.driver, nic.mac)
        for nic in topology().devices
        if nic.is_nic
    ] == [
        ("net0", "0000:01:00.0", "rp1", "virtio-net-pci", MAC),
        ("vf0", "0000:02:00.0", "rp2", "vfio-pci", None),
        (None, "0000:00:05.0", None, "virtio-net-pci", "52:54:00:00:00:09"),
    ]


def test_every_port_shows_what_uses_it_or_the_address_that_is_free() -> None:
    assert [
        (port.id, port.device, port.slot_address, port.hotplug) for port in topology().ports
    ] == [
        ("rp1", "net0", "0000:01:00.0", True),
        ("rp2", "vf0", "0000:02:00.0", True),
        ("rp3", None, "0000:03:00.0", True),
        ("rp4", None, "0000:04:00.0", False),
    ]


def test_a_port_is_not_free_because_the_firmware_has_not_looked_yet() -> None:
    early = asyncio.run(read_topology(early_answer))
    assert [(port.id, port.device, port.slot_address) for port in early.ports] == [
        ("rp1", "net0", None),
        ("rp2", "vf0", None),
        ("rp3", None, None),
    ]
    assert [(nic.id, nic.address, nic.port) for nic in early.devices if nic.is_nic] == [
        ("net0", None, "rp1")
    ]
    assert "vf0" in [device.id for device in early.devices]


def test_the_json_is_the_documented_shape(tmp_path: Path) -> None:
    shape = json.loads(inspect.as_json(inspection(tmp_path)))
    assert (shape["version"], shape["command"], shape["side"]) == (1, "inspect", "source")
    assert shape["nics"][1] == {
        "id": "vf0",
        "driver": "vfio-pci",
        "mac": MAC,
        "address": "0000:02:00.0",
        "port": "rp2",
        "role": "vf",
        "guest_interfaces": ["bond0", "enp1s0"],
    }
    assert shape["ports"][2] == {
        "id": "rp3",
        "address": "0000:00:03.0",
        "free_address": "0000:03:00.0",
        "device": None,
        "hotplug": True,
    }
    assert shape["devices"][0]["description"] == "Host bridge"


def test_the_table_says_what_is_free(tmp_path: Path) -> None:
    text = inspect.as_text(inspection(tmp_path))
    assert "rp3   0000:00:03.0  free: 0000:03:00.0" in text
    assert "rp4   0000:00:04.0  empty, no hot-plug" in text
    assert "net0  52:54:00:aa:00:01" in text
