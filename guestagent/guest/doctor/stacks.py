"""Findings on what else configures the network. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from guestagent.guest.core.pairing import pair_up
from guestagent.guest.doctor.facts import Facts, Finding, Severity


def claims(facts: Facts) -> Iterator[Finding]:
    """Find a network stack that would configure a port, or pull it out of the bond."""
    for claim in facts.claims:
        if claim.kept_off:
            yield Finding(
                severity=Severity.WARNING,
                about=claim.link,
                seen=f"{claim.source} gives it to {claim.stack}, and nothing but a property of"
                " udev's keeps the two apart",
                advice="narrow the file's match, or give it a name that sorts after"
                " 05-guestagent-port.network",
            )
        else:
            yield Finding(
                severity=Severity.ERROR,
                about=claim.link,
                seen=f"{claim.source} gives it to {claim.stack}, which would configure it by"
                " itself or take it out of its bond",
                advice=_ADVICE.get(claim.stack, "take the NIC out of that stack's configuration"),
            )


def marks(facts: Facts) -> Iterator[Finding]:
    """Find a VF that udev does not know as a port, so that network managers are not told."""
    for pair in pair_up(facts.snapshot, facts.policy).pairs:
        nic = facts.nic(pair.vf.ifindex) if pair.vf is not None else None
        if pair.vf is None or nic is None:
            continue
        if not nic.known_to_udev:
            yield Finding(
                severity=Severity.WARNING,
                about=pair.vf.name,
                seen="udev has no properties of it, mostly because renaming it failed: no network"
                " manager is told to leave it alone",
                advice="see `journalctl -b -u systemd-udevd`; a .link file that matches"
                " MACAddress= must match Driver=virtio_net as well",
            )
        elif not nic.marked:
            yield Finding(
                severity=Severity.WARNING,
                about=pair.vf.name,
                seen="udev does not mark it as a port (GUESTAGENT_PORT): no network manager is"
                " told to leave it alone",
                advice="see that 70-guestagent.rules is installed, then: udevadm control --reload"
                f" && udevadm trigger --action=change /sys/class/net/{pair.vf.name}",
            )


_ADVICE = {
    "systemd-networkd": "narrow the file's match (Driver=virtio_net), or give it a name that"
    " sorts after 05-guestagent-port.network",
    "NetworkManager": "mark it unmanaged: udevadm trigger --action=change /sys/class/net/NAME;"
    " for good: unmanaged-devices= in /etc/NetworkManager/conf.d",
    "ifupdown": "take the name out of the file: the bond has the addresses",
}
