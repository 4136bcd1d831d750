"""Reasons not to bond a pair: at all, or not while its standby is in use. Pure."""

from __future__ import annotations

from guestagent.guest.core.pair import Pair, Refusal


def ineligible(pair: Pair, bond: str) -> Refusal | None:
    """Return the reason to leave a pair alone, or None; ``bond`` is the name for its bond."""
    standby = pair.standby
    if standby.is_port_of(pair.bond):
        return None
    if standby.conflict is not None and (pair.bond is None or not pair.bond.complete):
        reason = f"{standby.name} {standby.conflict}"
        hint = (
            f"write {bond} in place of {standby.name} there and reboot; with"
            ' bond = "always" in guestagent.toml it is there without a VF as well. Or put'
            f" {pair.mac} on the exclude list there: until then no network manager uses its VF"
        )
    elif standby.address != standby.permanent_address:
        # A bond has one MAC, the VF's, and another program wants another one here.
        reason = (
            f"{standby.name} has the MAC {standby.address} in place of its own, which the VF has"
        )
        hint = (
            "have whatever sets it leave the MAC alone, and reboot; a MAC that is wanted is given"
            " to both NICs on the host"
        )
    elif standby.unmovable:
        reason = f"{standby.name} is in use and {', and '.join(standby.unmovable)}"
        hint = (
            "reboot: the bond is then made before the network is configured; or take it off"
            f" {standby.name}, and the bond is made at once"
        )
    else:
        return None
    names = tuple(link.name for link in pair.nics)
    return Refusal(mac=pair.mac, links=names, reason=reason, hint=hint)
