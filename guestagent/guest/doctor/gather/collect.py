"""One look at the system for the doctor; it changes nothing and needs no right.

What cannot be read without one is named in ``Facts.unseen``.
"""

from __future__ import annotations

from pathlib import Path

from guestagent.errors import ConfigurationError, GuestAgentError
from guestagent.guest.api import client
from guestagent.guest.core.link import STANDBY_DRIVER, Link
from guestagent.guest.core.pairing import pair_up
from guestagent.guest.core.policy import Policy
from guestagent.guest.core.snapshot import Snapshot
from guestagent.guest.doctor.facts import Claim, Complaint, Facts, NicFacts
from guestagent.guest.doctor.gather import probes
from guestagent.guest.doctor.gather.claims import claims
from guestagent.guest.kernel.netlink import NetlinkKernel
from guestagent.guest.kernel.udev import UdevDatabase
from guestagent.guest.reconcile.build import make_observer
from guestagent.guest.reconcile.stability import Stability
from guestagent.guest.report.status import Status
from guestagent.guest.state.config import load
from guestagent.guest.state.holds import Holds
from guestagent.json_fields import JsonError

QEMU_GA_CHANNEL = "org.qemu.guest_agent.0"


def gather(config: Path) -> Facts:
    """Return what is to be judged. Raises KernelError when the kernel cannot be asked."""
    try:
        policy, complaint = load(config), None
    except ConfigurationError as error:
        policy, complaint = Policy(), Complaint(message=error.message, hint=error.hint)
    kernel, udev = NetlinkKernel(), UdevDatabase()
    try:
        observer = make_observer(kernel, Stability(), udev_grace_s=0)
        snapshot = observer.observe(policy, Holds().current())
        nics = _nics(snapshot, kernel, udev)
    finally:
        kernel.close()
    last_error, unseen = _running_agent()
    found: list[Claim] = []
    for link in _off_limits(snapshot, policy):
        found.extend(claims(link, udev.properties(link.name)))
    return Facts(
        snapshot=snapshot,
        policy=policy,
        configuration=complaint,
        module=probes.bonding_module(),
        units=probes.units(),
        nics=nics,
        claims=tuple(found),
        cloud_init=probes.cloud_init(),
        all_are_filtered=probes.all_are_filtered(),
        firewall=probes.firewall(),
        host_channel=probes.has_channel(),
        guest_agent_channel=probes.has_channel(QEMU_GA_CHANNEL),
        journal_library=probes.has_journal_library(),
        last_error=last_error,
        unseen=unseen,
    )


def _running_agent() -> tuple[str | None, tuple[str, ...]]:
    """Return what the running agent complains of; that none runs is for the units to tell."""
    try:
        return Status.from_json(client.ask("status")).last_error, ()
    except client.NotRunningError:
        return None, ()
    except (GuestAgentError, JsonError) as error:
        return None, (f"the running agent was not asked: {error}",)


def _off_limits(snapshot: Snapshot, policy: Policy) -> tuple[Link, ...]:
    """Return the NICs that no network stack may configure: VFs of pairs, and ports."""
    pairs = pair_up(snapshot, policy).pairs
    vfs = [pair.vf for pair in pairs if pair.vf is not None]
    joined = [
        pair.standby
        for pair in pairs
        if pair.bond is not None and pair.standby.upper == pair.bond.ifindex
    ]
    return (*vfs, *joined)


def _nics(snapshot: Snapshot, kernel: NetlinkKernel, udev: UdevDatabase) -> tuple[NicFacts, ...]:
    limits = kernel.max_mtus()
    return tuple(
        _nic(link, limits.get(link.ifindex), kernel, udev)
        for link in snapshot.links
        if link.physical
    )


def _nic(link: Link, max_mtu: int | None, kernel: NetlinkKernel, udev: UdevDatabase) -> NicFacts:
    properties = udev.properties(link.name)
    return NicFacts(
        ifindex=link.ifindex,
        max_mtu=max_mtu,
        made_up_mac=link.driver != STANDBY_DRIVER and probes.made_up_mac(link.name),
        addresses=kernel.addresses(link.ifindex),
        received=probes.packets(link.name, "rx"),
        sent=probes.packets(link.name, "tx"),
        marked=properties.get("GUESTAGENT_PORT") == "1",
        known_to_udev=any(key.startswith("ID_") for key in properties),
    )
