"""All facts for the checks. Changes nothing and needs no privilege.

Facts that cannot be read without a privilege are named in ``GuestFacts.unseen``.
"""

from __future__ import annotations

from pathlib import Path

from guestagent.errors import ConfigurationError, GuestAgentError
from guestagent.findings import Finding
from guestagent.guest.api import client
from guestagent.guest.core.link import STANDBY_DRIVER, Link
from guestagent.guest.core.pairing import pair_up
from guestagent.guest.core.policy import Policy
from guestagent.guest.core.snapshot import Snapshot
from guestagent.guest.doctor.facts import CompetingStack, GuestFacts, NicFacts
from guestagent.guest.doctor.gather import probes
from guestagent.guest.doctor.gather.competing_stacks import competing_stacks
from guestagent.guest.kernel.netlink import NetlinkKernel
from guestagent.guest.kernel.udev import UdevDatabase
from guestagent.guest.reconcile.build import make_observer
from guestagent.guest.reconcile.stability import Stability
from guestagent.guest.report.status import Status
from guestagent.guest.state.config import load
from guestagent.guest.state.holds import Holds
from guestagent.json_fields import JsonError

QEMU_GA_CHANNEL = "org.qemu.guest_agent.0"


def gather(config: Path) -> GuestFacts:
    """Return the facts about this guest. Raises KernelError."""
    try:
        policy, wrong = load(config), None
    except ConfigurationError as error:
        hint = error.hint or "correct the file"
        policy, wrong = (
            Policy(),
            Finding(subject="configuration", message=error.message, hint=hint),
        )
    kernel, udev = NetlinkKernel(), UdevDatabase()
    try:
        observer = make_observer(kernel, Stability(), udev_grace_s=0)
        snapshot = observer.observe(policy, Holds().current())
        nics = _nics(snapshot, kernel, udev)
    finally:
        kernel.close()
    last_error, unseen = _running_agent()
    competing: list[CompetingStack] = []
    for link in _ports_and_vfs(snapshot, policy):
        competing.extend(competing_stacks(link, udev.properties(link.name)))
    return GuestFacts(
        snapshot=snapshot,
        policy=policy,
        configuration=wrong,
        module=probes.bonding_module(),
        units=probes.units(),
        nics=nics,
        competing_stacks=tuple(competing),
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
    """Return the last error of the running agent; the units show whether one runs."""
    try:
        return Status.from_json(client.ask("status")).last_error, ()
    except client.NotRunningError:
        return None, ()
    except (GuestAgentError, JsonError) as error:
        return None, (f"the running agent did not answer: {error}",)


def _ports_and_vfs(snapshot: Snapshot, policy: Policy) -> tuple[Link, ...]:
    """Return the NICs that no network stack may configure."""
    pairs = pair_up(snapshot, policy).pairs
    vfs = [pair.vf for pair in pairs if pair.vf is not None]
    joined = [pair.standby for pair in pairs if pair.standby.is_port_of(pair.bond)]
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
