"""Findings on the guest as a whole: kernel, units, configuration, cloud-init, channels. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from guestagent.guest.doctor.facts import BondingModule, CloudInit, Facts, Finding, Severity

CHANNEL = "org.guestagent.0"
SERVICE, EARLY = "guestagent.service", "guestagent-early.service"
HIDE = "guestagent-hide.service"
_EFFECT = {
    SERVICE: "a VF that is plugged in is not bonded",
    EARLY: "at boot the network is configured before the bond is there",
    HIDE: "a first boot with the VF present fails in cloud-init and applies no user-data",
}


def configuration(facts: Facts) -> Iterator[Finding]:
    """Judge whether the agent can read what it is told."""
    if facts.configuration is not None:
        yield Finding(
            severity=Severity.ERROR,
            about="configuration",
            seen=facts.configuration.message,
            advice=facts.configuration.hint or "correct the file",
        )


def bonding_module(facts: Facts) -> Iterator[Finding]:
    """Judge whether a bond can be made."""
    if facts.module is BondingModule.MISSING:
        yield Finding(
            severity=Severity.ERROR,
            about="kernel",
            seen="it has no bonding module, so no bond can be made",
            advice="install the full kernel package of the distribution (not a minimal flavour)",
        )
    elif facts.module is BondingModule.BLOCKED:
        yield Finding(
            severity=Severity.ERROR,
            about="kernel",
            seen="modprobe's configuration keeps the bonding module from being loaded",
            advice="see which file does: grep -r bonding /etc/modprobe.d /run/modprobe.d"
            " /usr/lib/modprobe.d",
        )


def units(facts: Facts) -> Iterator[Finding]:
    """Judge whether the agent runs, now and after the next boot."""
    for unit in facts.units:
        if unit.name == HIDE and facts.cloud_init is CloudInit.ABSENT:
            continue  # there is nobody to hide the VF from
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
        yield Finding(
            severity=Severity.ERROR,
            about=unit.name,
            seen=f"{seen}: {_EFFECT.get(unit.name, 'its work is not done')}",
            advice=advice,
        )


def running_agent(facts: Facts) -> Iterator[Finding]:
    """Pass on what the running agent has met."""
    if facts.last_error is not None:
        yield Finding(
            severity=Severity.ERROR,
            about="agent",
            seen=f"its last attempt failed: {facts.last_error}",
            advice="it tries again by itself; see journalctl -u guestagent",
        )


def cloud_init(facts: Facts) -> Iterator[Finding]:
    """Judge whether cloud-init gets through its first boot.

    With two NICs of one MAC it ends in "duplicate mac found" and applies no user-data
    (cloud-init: cloudinit/net/__init__.py, get_interfaces_by_mac (25.1)). Where the VF is
    hidden at boot, one that can be seen has come after cloud-init had looked.
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
        if facts.cloud_init is CloudInit.PENDING and not hidden:
            yield Finding(
                severity=Severity.ERROR,
                about="cloud-init",
                seen=f"its first boot is not finished and {macs[mac]} NICs have the MAC {mac}:"
                " it fails then, and no user-data is applied",
                advice=f"systemctl enable {HIDE}, or plug the VF only after the first boot, or"
                " use an image whose network is its own (network: {config: disabled} in"
                " /etc/cloud/cloud.cfg.d)",
            )
    if facts.cloud_init is CloudInit.DUPLICATE_MAC:
        yield Finding(
            severity=Severity.ERROR,
            about="cloud-init",
            seen="it failed in this boot because two NICs have one MAC: its user-data (users,"
            " keys, commands) may not be applied",
            advice="boot the instance once without its VF; `cloud-init status --long` shows more",
        )


def host_channel(facts: Facts) -> Iterator[Finding]:
    """Judge whether the host can announce that it takes the VF."""
    if facts.host_channel:
        return
    fallback = "qemu-ga may stand in" if facts.guest_agent_channel else "nothing stands in for it"
    yield Finding(
        severity=Severity.WARNING,
        about=CHANNEL,
        seen=f"the host gives no virtio-serial port of this name ({fallback}): a VF that is taken"
        " without a word loses about 0.1 s of traffic",
        advice="start QEMU with -device virtio-serial -chardev socket,id=agent,path=…,server=on,"
        f"wait=off -device virtserialport,chardev=agent,name={CHANNEL}",
    )


def journal(facts: Facts) -> Iterator[Finding]:
    """Judge whether the journal gets fields to search by."""
    if not facts.journal_library:
        yield Finding(
            severity=Severity.WARNING,
            about="python3-systemd",
            seen="it is not installed: journal messages have no fields and no message ids",
            advice="install python3-systemd",
        )


def unseen(facts: Facts) -> Iterator[Finding]:
    """Say what was not looked at: silence would read as health."""
    for text in facts.unseen:
        yield Finding(
            severity=Severity.NOTE, about="doctor", seen=text, advice="run it as root to see all"
        )
