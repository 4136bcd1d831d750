"""Forwarding of the guest's frames to the standby while the VF is away.

A card with an embedded switch delivers by MAC: to the VF that has it, otherwise to the PF only if
the PF's filter contains it. While the guest uses its virtio NIC, therefore

- a **macvtap** is up, which adds its MAC to the filter of the PF below (K: drivers/net/macvlan.c,
  macvlan_open), and is down while the VF has the MAC;
- for a **tap in a bridge** with the PF as a port, the MAC is in the PF's filter (``bridge fdb add
  … self``), without which neighbours on other VFs of this PF do not reach it, and the bridge has
  an entry for the tap, so that it does not go on sending to the last port of the VF's frames.

A bridge without a PF needs nothing: it learns from the guest's announcement.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from guestagent.host.sriov.core.model import Standby
from guestagent.host.sriov.links import HostLink, LinkError, Links

_MACVTAPS = {"macvtap", "macvlan"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StandbyLink:
    """The standby's interface on this host. ``pf`` is the PF whose filter affects it, if any."""

    link: HostLink
    bridged: bool
    pf: HostLink | None


def find(links: Links, standby: Standby, pfs: Collection[int]) -> StandbyLink | None:
    """Return the interface of a standby, None if it does not exist.

    ``pfs`` are the ifindexes of interfaces with an embedded switch.
    """
    listed = links.links()
    link = next((link for link in listed if standby.link in link.names), None)
    if link is None:
        return None
    if link.kind in _MACVTAPS:
        below = next((other for other in listed if other.ifindex == link.lower), None)
        return StandbyLink(link=link, bridged=False, pf=below)
    kinds = {other.ifindex: other.kind for other in listed}
    bridged = link.upper is not None and kinds.get(link.upper) == "bridge"
    uplinks = [
        other for other in listed if bridged and other.upper == link.upper and other.ifindex in pfs
    ]
    return StandbyLink(link=link, bridged=bridged, pf=uplinks[0] if uplinks else None)


def enable(links: Links, standby: Standby, pfs: Collection[int]) -> tuple[str, ...]:
    """Have frames to the MAC forwarded to the standby; return warnings.

    May be repeated. The guest stays reachable without this in the end, since its announcements
    teach bridges and switches; a refusal is therefore a warning about what does not work.
    """
    found = find(links, standby, pfs)
    if found is None:
        return (f"{standby.link}: no such interface on this host; forwarding to it is unchanged",)
    warnings = []
    try:
        if found.link.kind in _MACVTAPS and not found.link.up:
            links.set_up(found.link.ifindex, up=True)
        if found.bridged and found.pf is not None:
            links.add_filter_entry(found.pf.ifindex, standby.mac)
    except LinkError as error:
        warnings.append(f"{error}: neighbours on VFs of the same PF may not reach {standby.link}")
    try:
        if found.bridged:
            links.add_bridge_entry(found.link.ifindex, standby.mac)
    except LinkError as error:
        warnings.append(f"{error}: the bridge learns it from the guest's next frame")
    return tuple(warnings)


def disable(links: Links, standby: Standby, pfs: Collection[int]) -> tuple[str, ...]:
    """Undo ``enable``; return warnings. A missing entry or interface is no error."""
    found = find(links, standby, pfs)
    if found is None:
        return _clear_filters(links, standby, pfs)
    try:
        if found.link.kind in _MACVTAPS:
            if found.link.up:
                links.set_up(found.link.ifindex, up=False)
            return ()
        if found.bridged:
            links.remove_bridge_entry(found.link.ifindex, standby.mac)
            if found.pf is not None:
                links.remove_filter_entry(found.pf.ifindex, standby.mac)
    except LinkError as error:
        return (f"{error}: frames to {standby.mac} may still arrive at {standby.link}",)
    return ()


def _clear_filters(links: Links, standby: Standby, pfs: Collection[int]) -> tuple[str, ...]:
    """Clear the PFs' filters for a guest whose QEMU, and with it the tap, has ended."""
    try:
        for entry in links.forwarding_entries(standby.mac):
            if entry.own and entry.ifindex in pfs:
                links.remove_filter_entry(entry.ifindex, standby.mac)
    except LinkError as error:
        return (f"{error}: frames to {standby.mac} may still be sent to this host",)
    return ()
