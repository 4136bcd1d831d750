"""From values of the model to the messages of rtnetlink.

Messages are built attribute by attribute, because the keyword filters of
pyroute2 differ between 0.7 and 0.9 while its message classes do not; unknown
attributes are dropped by it in silence, so only attributes that 0.7.2 knows
are used.
"""

from __future__ import annotations

from typing import Any

from guestagent.guest.model import BondOptions
from guestagent.pyroute import Attrs

_IN6_ADDR_GEN_MODE_EUI64 = 0
_IN6_ADDR_GEN_MODE_NONE = 1
_ACTIVE_BACKUP = 1
_PRIMARY_RESELECT_ALWAYS = 0


def bond_options(options: BondOptions) -> tuple[str, Any]:
    """Return the attribute that makes a new link an active-backup bond."""
    return bond_data(
        [
            ("IFLA_BOND_MODE", _ACTIVE_BACKUP),
            ("IFLA_BOND_MIIMON", options.miimon_ms),
            ("IFLA_BOND_PRIMARY_RESELECT", _PRIMARY_RESELECT_ALWAYS),
            ("IFLA_BOND_FAIL_OVER_MAC", options.fail_over_mac),
            ("IFLA_BOND_NUM_PEER_NOTIF", options.announcements),
        ]
    )


def bond_data(data: Attrs) -> tuple[str, Any]:
    """Return the attribute that carries options of a bond."""
    info = [("IFLA_INFO_KIND", "bond"), ("IFLA_INFO_DATA", {"attrs": data})]
    return ("IFLA_LINKINFO", {"attrs": info})


def quietness(*, quiet: bool) -> tuple[str, Any]:
    """Return the attribute for addrgenmode none, or eui64 (K: net/ipv6/addrconf.c)."""
    mode = _IN6_ADDR_GEN_MODE_NONE if quiet else _IN6_ADDR_GEN_MODE_EUI64
    inet6 = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", mode)]}
    return ("IFLA_AF_SPEC", {"attrs": [("AF_INET6", inet6)]})
