"""Reads the present state of every pair from the kernel and from systemd-networkd's files."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from guestagent.errors import ConflictError
from guestagent.guest.core.link import Link
from guestagent.guest.core.pair import Pair
from guestagent.guest.core.pairing import pair_up
from guestagent.guest.core.planner import bond_name
from guestagent.guest.core.policy import Policy
from guestagent.guest.core.snapshot import Snapshot
from guestagent.guest.kernel.netlink import NetlinkKernel
from guestagent.guest.kernel.udev import UdevDatabase
from guestagent.guest.reconcile.build import make_observer
from guestagent.guest.reconcile.stability import Stability
from guestagent.guest.render.model import Settings, StaticPair, Vlan, settings
from guestagent.guest.stacks.networkd.network_file import Matchable, NetworkFile
from guestagent.guest.stacks.networkd.stack import Networkd

RESOLV_CONF = Path("/etc/resolv.conf")
NETWORKD_STATE = Path("/run/systemd/netif/state")
VLAN_CONFIG = Path("/proc/net/vlan/config")
_LOCAL_RESOLVER = "127."


def gather(policy: Policy) -> tuple[StaticPair, ...]:
    """Return every pair in its present state. Raises ConflictError without one, KernelError."""
    kernel, udev = NetlinkKernel(), UdevDatabase()
    try:
        snapshot = make_observer(kernel, Stability(), udev_grace_s=0).observe(policy)
        pairs = pair_up(snapshot, policy).pairs
        if not pairs:
            raise ConflictError(
                "this guest has no pair of virtio-net NIC and VF",
                hint="plug the VF in once; `guestagent status` lists the NICs that are left alone",
            )
        return tuple(_pair(kernel, udev, snapshot, policy, pair) for pair in pairs)
    finally:
        kernel.close()


def networkd_runs() -> bool:
    """Whether systemd-networkd configures this guest's network."""
    return NETWORKD_STATE.exists()


def _pair(
    kernel: NetlinkKernel, udev: UdevDatabase, snapshot: Snapshot, policy: Policy, pair: Pair
) -> StaticPair:
    carrier = pair.bond
    if carrier is None or pair.standby.upper != carrier.ifindex:
        carrier = pair.standby  # no bond yet: the NIC has the addresses
    taken = {link.name for link in snapshot.links}
    name = bond_name(snapshot, policy, pair, taken)
    file = _networkd_file(udev, pair, name)
    return StaticPair(
        bond=name,
        mac=pair.mac,
        mtu=carrier.mtu,
        options=policy.of_pair(pair.mac).options,
        vf_name=pair.vf.name if pair.vf is not None else None,
        vf_driver=pair.vf.driver if pair.vf is not None else None,
        settings=_settings(kernel, carrier, file),
        vlans=_vlans(kernel, snapshot, carrier),
        networkd=file.sections if file is not None else None,
        networkd_source=str(file.path) if file is not None else "",
    )


def _networkd_file(udev: UdevDatabase, pair: Pair, bond: str) -> NetworkFile | None:
    """Return the file by which networkd configures the pair now; None if it does not."""
    if not networkd_runs():
        return None
    stack = Networkd()
    file = stack.first_match(Matchable.bond(bond, pair.mac)) if pair.bond is not None else None
    if file is None and (pair.bond is None or pair.standby.upper != pair.bond.ifindex):
        file = stack.first_match(
            Matchable.nic(pair.standby, lambda: udev.properties(pair.standby.name))
        )
    return file if file is not None and file.movable else None


def _settings(kernel: NetlinkKernel, link: Link, file: NetworkFile | None = None) -> Settings:
    found = settings(kernel.addresses(link.ifindex), kernel.routes(link.ifindex))
    if file is not None:
        dns, domains = file.values("Network", "DNS"), file.values("Network", "Domains")
    elif found.dhcp4 or found.dhcp6 or found.accept_ra or not found.routes:
        return found
    else:
        dns, domains = _resolv_conf()
    return replace(found, dns=dns, domains=domains)


def _vlans(kernel: NetlinkKernel, snapshot: Snapshot, lower: Link) -> tuple[Vlan, ...]:
    tags = _vlan_tags()
    return tuple(
        Vlan(
            name=link.name,
            tag=tags[link.name],
            mtu=link.mtu,
            settings=_settings(kernel, link),
        )
        for link in snapshot.above(lower)
        if link.kind == "vlan" and link.name in tags
    )


def _vlan_tags() -> dict[str, int]:
    """Read the tags of the VLANs (K: net/8021q/vlanproc.c, vlan_seq_show (6.12))."""
    try:
        text = VLAN_CONFIG.read_text()
    except OSError:
        return {}
    rows = re.findall(r"^(\S+)\s*\|\s*(\d+)\s*\|", text, re.MULTILINE)
    return {name: int(tag) for name, tag in rows}


def _resolv_conf() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return DNS servers and search domains; nothing if the server is a resolver of the guest."""
    try:
        text = RESOLV_CONF.read_text()
    except OSError:
        return (), ()
    servers = tuple(re.findall(r"^nameserver\s+(\S+)", text, re.MULTILINE))
    if any(server.startswith(_LOCAL_RESOLVER) for server in servers):
        return (), ()
    domains = re.findall(r"^search\s+(.+)$", text, re.MULTILINE)
    return servers, tuple(domains[-1].split()) if domains else ()
