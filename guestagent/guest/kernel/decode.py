"""From the messages of rtnetlink to values of the model."""

from __future__ import annotations

from typing import Any

from guestagent.guest.model import BondState, Link

_NO_MAC = {"", "00:00:00:00:00:00"}
_OPERATIONAL = {"UP", "UNKNOWN"}
_ADDR_GEN_MODE_NONE = 1
_MODES = (
    "balance-rr",
    "active-backup",
    "balance-xor",
    "broadcast",
    "802.3ad",
    "balance-tlb",
    "balance-alb",
)


def decode_link(message: Any) -> Link:
    """Return the link of an RTM_NEWLINK message; device facts are added by the caller."""
    info: Any = message.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info is not None else None
    data = info.get_attr("IFLA_INFO_DATA") if info is not None else None
    port = info.get_attr("IFLA_INFO_SLAVE_DATA") if info is not None else None
    address = (message.get_attr("IFLA_ADDRESS") or "").lower()
    permanent = _mac(message.get_attr("IFLA_PERM_ADDRESS"))
    if permanent is None and port is not None and hasattr(port, "get_attr"):
        # Kernels before 5.6 name it for the ports of a bond only.
        permanent = _mac(port.get_attr("IFLA_BOND_SLAVE_PERM_HWADDR"))
    flags = message["flags"]
    carrier = bool(message.get_attr("IFLA_CARRIER")) and bool(flags & 0x1)
    state = message.get_attr("IFLA_OPERSTATE")
    return Link(
        ifindex=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        address=address,
        permanent_address=permanent,
        kind=kind,
        mtu=message.get_attr("IFLA_MTU") or 0,
        up=bool(flags & 0x1),
        carrier=carrier,
        operational=carrier and state in _OPERATIONAL,
        quiet=_quiet(message),
        upper=message.get_attr("IFLA_MASTER"),
        lower=message.get_attr("IFLA_LINK"),
        alias=message.get_attr("IFLA_IFALIAS"),
        group=message.get_attr("IFLA_GROUP") or 0,
        bond=_bond(data) if kind == "bond" and data is not None else None,
    )


def _bond(data: Any) -> BondState:
    mode = data.get_attr("IFLA_BOND_MODE") or 0
    return BondState(
        mode=_MODES[mode] if mode < len(_MODES) else str(mode),
        active=data.get_attr("IFLA_BOND_ACTIVE_SLAVE") or None,
        primary=data.get_attr("IFLA_BOND_PRIMARY") or None,
        miimon_ms=data.get_attr("IFLA_BOND_MIIMON") or 0,
        fail_over_mac=data.get_attr("IFLA_BOND_FAIL_OVER_MAC") or 0,
        primary_reselect=data.get_attr("IFLA_BOND_PRIMARY_RESELECT") or 0,
        announcements=data.get_attr("IFLA_BOND_NUM_PEER_NOTIF") or 0,
        all_ports_active=bool(data.get_attr("IFLA_BOND_ALL_SLAVES_ACTIVE")),
    )


def _quiet(message: Any) -> bool:
    spec: Any = message.get_attr("IFLA_AF_SPEC")
    inet6: Any = spec.get_attr("AF_INET6") if hasattr(spec, "get_attr") else None
    if not hasattr(inet6, "get_attr"):
        return False
    mode: int | None = inet6.get_attr("IFLA_INET6_ADDR_GEN_MODE")
    return mode == _ADDR_GEN_MODE_NONE


def _mac(value: str | None) -> str | None:
    mac = (value or "").lower()
    return None if mac in _NO_MAC else mac
