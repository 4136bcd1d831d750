"""Macvtaps for standbys, on the PF of a claimed VF.

The alias of the interface names the VF of the lease. The release finds it by this alias alone,
and never deletes another interface.
"""

from __future__ import annotations

import errno

from guestagent.errors import ConflictError
from guestagent.host.sriov.core.model import Macvtap
from guestagent.host.sriov.links import LinkError, Links
from guestagent.host.sriov.vfio import Roots, users

_NODES = "/dev/tap"


def create(links: Links, vf: str, pf: int, name: str, mac: str) -> Macvtap:
    """Make a macvtap in bridge mode on a PF and bring it up, or keep the one made for this VF.

    It must be up while QEMU opens it and the guest has no VF. Raises ConflictError if another
    interface has the name.
    """
    try:
        links.create_macvtap(pf, name, mac, _alias(vf))
    except LinkError as error:
        if error.code != errno.EEXIST:
            raise
    (link,) = (link for link in links.links() if link.name == name)
    if (link.kind, link.lower, link.mac, link.alias) != ("macvtap", pf, mac, _alias(vf)):
        raise ConflictError(
            f"{name}: an interface with this name exists already",
            hint="give the macvtap another name",
        )
    links.set_up(link.ifindex, up=True)
    return Macvtap(link=name, device=f"{_NODES}{link.ifindex}")


def remove_unused(links: Links, vf: str, roots: Roots) -> tuple[str, ...]:
    """Delete the macvtaps of a VF; warn about those that a process has open."""
    made = [link for link in links.links() if link.alias == _alias(vf)]
    if not made:
        return ()
    warnings = []
    opened = users(roots, _NODES)
    for link in made:
        user = opened.get(f"{_NODES}{link.ifindex}")
        if user is None:
            links.delete_link(link.ifindex)
        else:
            warnings.append(
                f"{link.name}: {user} has it open; delete it afterwards: ip link del {link.name}"
            )
    return tuple(warnings)


def _alias(vf: str) -> str:
    return f"guestagent-host: standby of {vf}"
