"""Checks of the guest as a whole: kernel, units, configuration, cloud-init, channels. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from guestagent.findings import Finding, error, note, warning
from guestagent.guest.doctor.facts import BondingModule, CloudInitState, GuestFacts

CHANNEL = "org.guestagent.0"
SERVICE, EARLY = "guestagent.service", "guestagent-early.service"
HIDE = "guestagent-hide.service"
_EFFECT = {
    SERVICE: "a VF that is plugged in is not bonded",
    EARLY: "at boot the network is configured before the bond is there",
    HIDE: "a first boot with the VF present fails in cloud-init and applies no user-data",
}


def configuration(facts: GuestFacts) -> Iterator[Finding]:
    """Check whether the agent can read its configuration."""
    if facts.configuration is not None:
        yield facts.configuration


def bonding_module(facts: GuestFacts) -> Iterator[Finding]:
    """Check whether the kernel can make a bond."""
    if facts.module is BondingModule.MISSING:
        yield error(
            "kernel",
            "it has no bonding module, so no bond can be made",
            hint="install the full kernel package of the distribution (not a minimal flavour)",
        )
    elif facts.module is BondingModule.BLOCKED:
        yield error(
            "kernel",
            "modprobe's configuration keeps the bonding module from being loaded",
            hint="see which file does: grep -r bonding /etc/modprobe.d /run/modprobe.d"
            " /usr/lib/modprobe.d",
        )


def units(facts: GuestFacts) -> Iterator[Finding]:
    """Check whether the agent runs, now and after the next boot."""
    for unit in facts.units:
        if unit.name == HIDE and facts.cloud_init is CloudInitState.ABSENT:
            continue  # without cloud-init the VF need not be hidden
        if not unit.installed:
            seen, advice = "it is not installed", "install the package guestagent"
        elif unit.active == "failed":
            seen = f"it has failed ({unit.result})"
            advice = f"see why: journalctl --boot --unit {unit.name}"
        elif unit.name == SERVICE and unit.active not in {"active", "activating", "reloading"}:
            seen, advice = "it is not running", f"systemctl enable --now {unit.name}"
        elif not unit.enabled:
            seen, advice = "it does not start at boot", f"systemctl enable {unit.name}"
        else:
            continue
        yield error(
            unit.name,
            f"{seen}: {_EFFECT.get(unit.name, 'its work is not done')}",
            hint=advice,
        )


def running_agent(facts: GuestFacts) -> Iterator[Finding]:
    """Report the last error of the running agent."""
    if facts.last_error is not None:
        yield error(
            "agent",
            f"its last attempt failed: {facts.last_error}",
            hint="it tries again on its own; see journalctl -u guestagent",
        )


def cloud_init(facts: GuestFacts) -> Iterator[Finding]:
    """Check whether cloud-init can finish its first boot.

    With two NICs of one MAC it ends in "duplicate mac found" and applies no user-data
    (cloud-init: cloudinit/net/__init__.py, get_interfaces_by_mac (25.1)). Where VFs are
    hidden at boot, a visible VF has come after cloud-init looked for NICs.
    """
    hidden = any(
        unit.name == HIDE and unit.enabled and unit.active != "failed" for unit in facts.units
    )
    macs = Counter(
        link.permanent_address
        for link in facts.snapshot.links
        if link.physical and link.permanent_address is not None
    )
    for mac in sorted(mac for mac, count in macs.items() if count > 1):
        if facts.cloud_init is CloudInitState.PENDING and not hidden:
            yield error(
                "cloud-init",
                f"its first boot is not finished and {macs[mac]} NICs have the MAC {mac}:"
                " it fails then, and no user-data is applied",
                hint=f"systemctl enable {HIDE}, or plug the VF only after the first boot, or"
                " use an image whose network is its own (network: {config: disabled} in"
                " /etc/cloud/cloud.cfg.d)",
            )
    if facts.cloud_init is CloudInitState.DUPLICATE_MAC:
        yield error(
            "cloud-init",
            "it failed in this boot because two NICs have one MAC: its user-data (users,"
            " keys, commands) may not be applied",
            hint="boot the instance once without its VF; `cloud-init status --long` shows more",
        )


def host_channel(facts: GuestFacts) -> Iterator[Finding]:
    """Check whether the host can announce the removal of the VF."""
    if facts.host_channel:
        return
    fallback = "qemu-ga may stand in" if facts.guest_agent_channel else "nothing stands in for it"
    yield warning(
        CHANNEL,
        f"the host gives no virtio-serial port of this name ({fallback}): a VF that is removed"
        " unannounced loses about 0.1 s of traffic",
        hint="start QEMU with -device virtio-serial -chardev socket,id=agent,path=…,server=on,"
        f"wait=off -device virtserialport,chardev=agent,name={CHANNEL}",
    )


def journal(facts: GuestFacts) -> Iterator[Finding]:
    """Check whether journal messages have fields and message ids."""
    if not facts.journal_library:
        yield warning(
            "python3-systemd",
            "it is not installed: journal messages have no fields and no message ids",
            hint="install python3-systemd",
        )


def unseen(facts: GuestFacts) -> Iterator[Finding]:
    """Report the facts that could not be read: silence would look like health."""
    for text in facts.unseen:
        yield note("doctor", text, hint="run it as root to see all")
