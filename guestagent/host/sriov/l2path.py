"""The way of frames to the standby: what the host must know while the VF is away.

A card with an embedded switch delivers by MAC: to a VF that has it, otherwise
only to what the PF asks for. So while the guest is on its virtio NIC

- a **macvtap** is up, which puts its MAC into the filter of the PF below
  (K: drivers/net/macvlan.c, macvlan_open), and down while the VF has the MAC;
- for a **tap in a bridge** whose port is the PF, the MAC is in the PF's filter
  (``bridge fdb add … self``), without which neighbours on other VFs of the same
  PF do not reach it, and the bridge sends it to the tap at once instead of where
  the VF's frames were last seen to come from.

A bridge without a PF needs nothing: it learns from the guest's announcement.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from guestagent.host.sriov.core.model import Standby
from guestagent.host.sriov.links import HostLink, LinkError, Links

_MACVTAPS = {"macvtap", "macvlan"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """What a standby is on this host. ``pf`` is the PF whose filter concerns it, if any."""

    link: HostLink
    bridged: bool
    pf: HostLink | None


def find(links: Links, standby: Standby, pfs: Collection[int]) -> Path | None:
    """Return the path of a standby, None when its interface is not there.

    ``pfs`` are the ifindexes of interfaces with an embedded switch.
    """
    listed = links.links()
    link = next((link for link in listed if standby.link in link.names), None)
    if link is None:
        return None
    if link.kind in _MACVTAPS:
        below = next((other for other in listed if other.ifindex == link.lower), None)
        return Path(link=link, bridged=False, pf=below)
    kinds = {other.ifindex: other.kind for other in listed}
    bridged = link.upper is not None and kinds.get(link.upper) == "bridge"
    uplinks = [
        other for other in listed if bridged and other.upper == link.upper and other.ifindex in pfs
    ]
    return Path(link=link, bridged=bridged, pf=uplinks[0] if uplinks else None)


def open_path(links: Links, standby: Standby, pfs: Collection[int]) -> tuple[str, ...]:
    """Have frames to the MAC delivered to the standby; return warnings.

    May be repeated. Nothing here is needed for the guest to be reachable in the
    end, since its announcements teach bridges and switches; so a refusal is a
    warning that says who may not reach it.
    """
    path = find(links, standby, pfs)
    if path is None:
        return (f"{standby.link}: no such interface on this host, the standby's path is as it is",)
    warnings = []
    try:
        if path.link.kind in _MACVTAPS and not path.link.up:
            links.set_up(path.link.ifindex, up=True)
        if path.bridged and path.pf is not None:
            links.add_to_filter(path.pf.ifindex, standby.mac)
    except LinkError as error:
        warnings.append(f"{error}: neighbours on VFs of the same PF may not reach {standby.link}")
    try:
        if path.bridged:
            links.point_bridge(path.link.ifindex, standby.mac)
    except LinkError as error:
        warnings.append(f"{error}: the bridge learns it from the guest's next frame")
    return tuple(warnings)


def close_path(links: Links, standby: Standby, pfs: Collection[int]) -> tuple[str, ...]:
    """Undo ``open_path``; return warnings. What is not there is fine."""
    path = find(links, standby, pfs)
    if path is None:
        return _close_without_link(links, standby, pfs)
    try:
        if path.link.kind in _MACVTAPS:
            if path.link.up:
                links.set_up(path.link.ifindex, up=False)
            return ()
        if path.bridged:
            links.forget_in_bridge(path.link.ifindex, standby.mac)
            if path.pf is not None:
                links.remove_from_filter(path.pf.ifindex, standby.mac)
    except LinkError as error:
        return (f"{error}: frames to {standby.mac} may still arrive at {standby.link}",)
    return ()


def _close_without_link(links: Links, standby: Standby, pfs: Collection[int]) -> tuple[str, ...]:
    """Clear the filters of a guest whose QEMU, and so whose tap, has ended."""
    try:
        for entry in links.fdb(standby.mac):
            if entry.own and entry.ifindex in pfs:
                links.remove_from_filter(entry.ifindex, standby.mac)
    except LinkError as error:
        return (f"{error}: frames to {standby.mac} may still be sent to this host",)
    return ()
