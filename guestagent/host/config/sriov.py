"""The ``[pair.sriov]`` table of a VM description: which VF, and what it is made to be."""

from __future__ import annotations

import re
from uuid import UUID

from guestagent.host.sriov.core.model import PortProfile, Provision, Standby, VfSettings, Want
from guestagent.strict_toml import Table

EXAMPLE = """\
# With this table the VF is claimed, so that no other helper takes it, programmed through its
# PF, bound to vfio-pci, and given back as it was. Without it, it is taken as it is.
[pair.sriov]
pf = ["physnet1", "0000:3b:00.0"]   # a VF of any of these PFs, where vf has no host: names,
                                    # alternative names (ip link property) or PCI addresses
vlan = 100                          # the tag of all its frames; 0, the default, is none
# qos = 0                           # the rest is optional, and left as the host has it
# vlan_protocol = "802.1ad"
# trust = false
# spoof_check = true
# link_state = "auto"               # or enable, disable
# min_rate_mbit_per_s = 0
# max_rate_mbit_per_s = 1000        # 0: no limit
# mtu = 9000                        # what the PF must carry
# port_profile = "gold"             # 802.1Qbh
# port_instance = "0f0e0d0c-0b0a-0908-0706-050403020100"
# port_host = "0f0e0d0c-0b0a-0908-0706-050403020101"
# on_refusal = "fail"               # an optional value that a driver refuses: warn (default)
standby_link = "tap-web1"           # the tap or macvtap of the standby: its MAC is moved with
                                    # the VF in the PF's filter and its bridge
[pair.destination_sriov]            # laid over sriov
standby_link = "tap-web1-new"
"""

_PCI = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


def provision(table: Table, *, mac: str, host: str | None) -> Provision:
    """Read the table; ``host`` is the VF that the pair names, None where one is to be chosen.

    Raises ConfigurationError, which names the file and the key.
    """
    if host is not None and not _PCI.fullmatch(host):
        raise table.wrong("", f"needs a VF whose host is written as 0000:3b:02.1, not {host!r}")
    names = table.texts("pf") if table.has("pf") else ()
    if host is None and not names:
        raise table.wrong("pf", "is missing, and vf has no host", hint="say which VF will do")
    standby = table.optional_text("standby_link")
    settings = table.fill(
        VfSettings,
        mac=mac,
        port_profile=_port_profile(table),
        standby=None if standby is None else Standby(link=standby, mac=mac),
    )
    want = table.fill(Want, pfs=() if host is not None else names, vf=host, vlan=settings.vlan)
    table.finish()
    return Provision(want=want, settings=settings)


def _port_profile(table: Table) -> PortProfile | None:
    name = table.optional_text("port_profile")
    instance, host = _uuid(table, "port_instance"), _uuid(table, "port_host")
    if name is None:
        if instance or host:
            raise table.wrong("port_profile", "is missing, and a UUID for it is there")
        return None
    return PortProfile(name=name, instance=instance, host=host)


def _uuid(table: Table, key: str) -> str | None:
    text = table.optional_text(key)
    if text is None:
        return None
    try:
        return str(UUID(text))
    except ValueError as error:
        raise table.wrong(key, f"is {text!r}, must be a UUID") from error
