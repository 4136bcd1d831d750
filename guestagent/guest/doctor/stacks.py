"""Checks for other programs that configure the network. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from guestagent.findings import Finding, error, warning
from guestagent.guest.core.pairing import pair_up
from guestagent.guest.doctor.facts import GuestFacts


def competing_stacks(facts: GuestFacts) -> Iterator[Finding]:
    """Find a network stack that would configure a port, or pull it out of the bond."""
    for stack in facts.competing_stacks:
        if stack.kept_off:
            yield warning(
                stack.link,
                f"{stack.source} gives it to {stack.stack}, and nothing but a udev"
                " property keeps the two apart",
                hint="narrow the file's match, or give it a name that sorts after"
                " 05-guestagent-port.network",
            )
        else:
            yield error(
                stack.link,
                f"{stack.source} gives it to {stack.stack}, which would configure it"
                " itself or take it out of its bond",
                hint=_ADVICE.get(stack.stack, "take the NIC out of that stack's configuration"),
            )


def marks(facts: GuestFacts) -> Iterator[Finding]:
    """Find a VF that udev does not mark as a port, so that network managers would use it."""
    for pair in pair_up(facts.snapshot, facts.policy).pairs:
        nic = facts.nic(pair.vf.ifindex) if pair.vf is not None else None
        if pair.vf is None or nic is None:
            continue
        if not nic.known_to_udev:
            yield warning(
                pair.vf.name,
                "udev has no properties of it, mostly because renaming it failed: no network"
                " manager is told to leave it alone",
                hint="see `journalctl -b -u systemd-udevd`; a .link file that matches"
                " MACAddress= must match Driver=virtio_net as well",
            )
        elif not nic.marked:
            yield warning(
                pair.vf.name,
                "udev does not mark it as a port (GUESTAGENT_PORT): no network manager is"
                " told to leave it alone",
                hint="see that 70-guestagent.rules is installed, then: udevadm control --reload"
                f" && udevadm trigger --action=change /sys/class/net/{pair.vf.name}",
            )


_ADVICE = {
    "systemd-networkd": "narrow the file's match (Driver=virtio_net), or give it a name that"
    " sorts after 05-guestagent-port.network",
    "NetworkManager": "mark it unmanaged: udevadm trigger --action=change /sys/class/net/NAME;"
    " for good: unmanaged-devices= in /etc/NetworkManager/conf.d",
    "ifupdown": "take the name out of the file: the bond has the addresses",
}
