"""The VM description: one TOML file per VM, read strictly.

An unknown key, a missing key or a value of another type is an error that names the file and the
key: a mistake in a timeout must show before a migration, not during one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from guestagent import strict_toml
from guestagent.errors import ConfigurationError
from guestagent.host.config import sriov
from guestagent.host.model import (
    Destination,
    Device,
    Endpoint,
    MigrationSettings,
    PairConfig,
    Timeouts,
    Vm,
)
from guestagent.host.remote.client import ssh_command
from guestagent.host.sriov.core.model import Provision
from guestagent.host.sriov.records import DIRECTORY as LEASES
from guestagent.strict_toml import Table

STATE_DIR = Path("/var/lib/guestagent-host")
"""Where locks and leases are, the same for all helpers of a host."""

EXAMPLE = (
    """\
name = "web1"                       # default: the file's name without .toml
guest_must_agree = false            # true: a guest that refuses to leave its VF keeps it

[source]                            # the QEMU where the guest runs now
qmp = "/run/vm/web1/qmp.sock"       # a QMP socket that nobody else uses
qga = "/run/vm/web1/qga.sock"       # optional: qemu-ga
agent = "/run/vm/web1/agent.sock"   # optional: virtio-serial port org.guestagent.0
                                    # without agent and qga the unplug loses packets

[destination]                       # for migrate: a QEMU started with -incoming defer
qmp = "/run/vm/web1-new/qmp.sock"
uri = "unix:/run/vm/web1.migrate"   # or tcp:host2:4444: where the source connects to
# listen = "tcp:[::]:4444"          # if the destination opens it under another name
# host = "ssh://host2"              # where its sockets and VFs are, if not here: needs this
                                    # program there, and ssh as root without a password

[[pair]]                            # one for each standby NIC with a VF
mac = "52:54:00:aa:00:01"
standby = "net0"                    # id of the virtio-net device
# The VF as device_add takes it: driver, id, bus and any other property.
vf = { driver = "vfio-pci", id = "vf0", bus = "rp2", host = "0000:3b:02.1" }
# On the destination, laid over vf. Another driver: only id and bus stay.
# false: there is no VF there, and the guest goes on without.
destination_vf = { host = "0000:af:10.3" }

"""
    + sriov.EXAMPLE
    + """\

[migration]                         # all optional
downtime_limit_ms = 300             # tried with 10 first, raised while that does not suffice
bandwidth_limit_mib_per_s = 1024    # default: QEMU's own setting
# postcopy = true                   # after one pass the guest runs there, its memory follows
# auto_converge = true              # slow a guest down that writes faster than can be sent
# multifd_channels = 4              # several connections in parallel
timeout_s = 1800                    # then the migration is cancelled

[timeouts]                          # all optional; these are the defaults
command_s = 10                      # for an answer of QEMU
unplug_s = 10                       # for the guest to release a VF, at least 5
unplug_requests = 3                 # then the VF stays
attach_s = 120                      # vfio pins the guest's memory meanwhile
attach_tries = 3
guest_s = 30                        # for the guest to use a VF that it was given
"""
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+@-]{0,63}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def load(path: Path) -> Vm:
    """Read the description of one VM.

    Raises ConfigurationError, which names the file and the key.
    """
    raw = strict_toml.read(path, hint="give the path of a VM description; see --help")
    return _vm(Table(raw, path, hint="see the example in --help"), path)


def _vm(table: Table, path: Path) -> Vm:
    name = table.optional_text("name") or path.stem
    if not _NAME.fullmatch(name):
        raise table.wrong(
            "name",
            f"is {name!r}, must be letters, digits and any of _.+@-, at most 64",
            hint="set name in the description: its default, the file's name, is not valid",
        )
    if name == LEASES:
        raise table.wrong("name", f"must not be {LEASES!r}", hint="the leases on VFs are there")
    vm = Vm(
        name=name,
        source=table.table("source").filled(Endpoint),
        destination=_destination(table.table("destination")) if table.has("destination") else None,
        pairs=tuple(_pair(pair) for pair in table.tables("pair")),
        migration=table.optional_table("migration").filled(MigrationSettings),
        timeouts=table.optional_table("timeouts").filled(Timeouts),
        guest_must_agree=table.boolean("guest_must_agree", default=False),
    )
    table.finish()
    _check_unique(table, vm)
    return vm


def _destination(table: Table) -> Destination:
    endpoint = table.fill(Endpoint)
    uri = _uri(table, "uri")
    listen = _uri(table, "listen") if table.has("listen") else uri
    host = table.optional_text("host")
    if host is not None:
        _check_host(table, host)
    table.finish()
    return Destination(endpoint=endpoint, uri=uri, listen=listen, host=host)


def _check_host(table: Table, host: str) -> None:
    try:
        ssh_command(host)
    except ConfigurationError as error:
        raise table.wrong("host", f"is wrong: {error.message}", hint=error.hint) from error


def _uri(table: Table, key: str) -> str:
    uri = table.text(key)
    if not uri.startswith(("unix:/", "tcp:")):
        raise table.wrong(key, f"is {uri!r}, must be unix:/path or tcp:host:port")
    return uri


def _pair(table: Table) -> PairConfig:
    mac = table.text("mac").lower()
    if not _MAC.fullmatch(mac):
        raise table.wrong("mac", f"is {mac!r}, must be written as 52:54:00:aa:00:01")
    standby = table.text("standby")
    raw = table.take("vf")
    vf = _device(table, "vf", raw, mac)
    other = table.take("destination_vf", {})
    raw_sriov = table.take("sriov", None)
    other_sriov = table.take("destination_sriov", {})
    table.finish()
    sriov = _provision(table, "sriov", raw_sriov, vf, mac)
    destination_vf, destination_sriov = None, None
    if other is not False:
        laid_over = _lay_over(table, raw, other)
        provided = _lay_over_sriov(table, raw_sriov, other_sriov)
        if provided and "pf" in provided and "host" not in _keys(other):
            # The address of the source's VF does not apply to the destination.
            laid_over = {key: value for key, value in laid_over.items() if key != "host"}
        destination_vf = _device(table, "destination_vf", laid_over, mac)
        destination_sriov = _provision(table, "destination_sriov", provided, destination_vf, mac)
    return PairConfig(
        mac=mac,
        standby=standby,
        vf=vf,
        destination_vf=destination_vf,
        sriov=sriov,
        destination_sriov=destination_sriov,
    )


def _provision(pair: Table, key: str, raw: object, vf: Device, mac: str) -> Provision | None:
    if raw is None:
        return None
    host = dict(vf.properties).get("host")
    return sriov.provision(
        pair.nested(key, raw), mac=mac, host=None if host is None else str(host)
    )


def _lay_over_sriov(table: Table, base: object, other: object) -> dict[str, object] | None:
    """Return the destination's table; None where neither side has one."""
    if base is None and not other:
        return None
    if not isinstance(base, dict | None) or not isinstance(other, dict):
        raise table.wrong("destination_sriov", "must be a table, as sriov")
    return {**(base or {}), **other}


def _keys(raw: object) -> set[str]:
    return set(raw) if isinstance(raw, dict) else set()


def _lay_over(table: Table, base: object, other: object) -> Mapping[str, object]:
    if not isinstance(base, dict) or not isinstance(other, dict):
        raise table.wrong("destination_vf", "must be a table, or false where there is no VF")
    other_model = "driver" in other and other["driver"] != base["driver"]
    kept = {key: base[key] for key in ("id", "bus")} if other_model else base
    return {**kept, **other}


def _device(pair: Table, key: str, raw: object, mac: str) -> Device:
    table = pair.nested(key, raw)
    device = Device(
        driver=table.text("driver"),
        id=table.text("id"),
        bus=table.text("bus"),
        properties=table.rest(),
    )
    own_mac = dict(device.properties).get("mac", mac)
    if str(own_mac).lower() != mac:
        raise table.wrong(
            "mac",
            f"is {own_mac!r}, the pair's is {mac!r}",
            hint="standby and VF are a pair because they have one MAC",
        )
    return device


def _check_unique(table: Table, vm: Vm) -> None:
    """Refuse an id, a MAC or a port that is used twice."""
    for what, used in (
        ("mac", [pair.mac for pair in vm.pairs]),
        ("id", [pair.standby for pair in vm.pairs] + [pair.vf.id for pair in vm.pairs]),
        ("bus", [pair.vf.bus for pair in vm.pairs]),
    ):
        twice = sorted({value for value in used if used.count(value) > 1})
        if twice:
            raise table.wrong("pair", f"uses {what} {twice[0]!r} twice")
