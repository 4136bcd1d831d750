"""Network stacks that would configure a NIC, from their files and state.

A stack that does not run competes for no NIC. Another stack is one more function here.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from guestagent.guest.core.link import Link
from guestagent.guest.doctor.facts import CompetingStack
from guestagent.guest.doctor.gather.probes import ROOT, run
from guestagent.guest.stacks.networkd.network_file import Matchable
from guestagent.guest.stacks.networkd.stack import Networkd

UNMANAGED_SINCE = 255
"""First systemd-networkd that respects ID_NET_MANAGED_BY (systemd: NEWS)."""


def competing_stacks(
    link: Link, properties: Mapping[str, str], root: Path = ROOT
) -> Iterator[CompetingStack]:
    """Yield the stacks that would configure a port or a VF."""
    yield from _networkd(link, properties, root)
    yield from _network_manager(link, properties, root)
    yield from _ifupdown(link, root)


def _networkd(link: Link, properties: Mapping[str, str], root: Path) -> Iterator[CompetingStack]:
    if not (root / "run/systemd/netif/state").exists():
        return
    file = Networkd(root).first_match(Matchable.nic(link, lambda: properties))
    if file is None or file.unmanaged:
        return
    unmanaged = properties.get("ID_NET_MANAGED_BY") not in {None, "io.systemd.Network"}
    yield CompetingStack(
        stack="systemd-networkd",
        link=link.name,
        source=str(file.path),
        kept_off=unmanaged and networkd_version() >= UNMANAGED_SINCE,
    )


def _network_manager(
    link: Link, properties: Mapping[str, str], root: Path
) -> Iterator[CompetingStack]:
    runs = (root / "run/NetworkManager/devices").is_dir()
    if runs and properties.get("NM_UNMANAGED") != "1":
        yield CompetingStack(
            stack="NetworkManager",
            link=link.name,
            source="the missing udev property NM_UNMANAGED=1",
            kept_off=False,
        )


def _ifupdown(link: Link, root: Path) -> Iterator[CompetingStack]:
    """Search for the name after auto, allow-hotplug or iface (interfaces(5))."""
    if not any((root / name).exists() for name in ("usr/sbin/ifup", "sbin/ifup")):
        return
    etc = root / "etc/network"
    for file in (etc / "interfaces", *sorted((etc / "interfaces.d").glob("*"))):
        try:
            text = file.read_text()
        except (OSError, UnicodeDecodeError):
            continue
        for line in re.findall(r"^\s*(?:auto|allow-\S+|iface)\s+(.*)$", text, re.MULTILINE):
            # A word with a slash is a pattern: /en* or mac/52:54:*.
            globs = [word.rpartition("/")[2] if "/" in word else word for word in line.split()]
            if any(fnmatch.fnmatchcase(link.name, glob) for glob in globs):
                yield CompetingStack(
                    stack="ifupdown", link=link.name, source=str(file), kept_off=False
                )
                break


def networkd_version() -> int:
    """Return the version of systemd, 0 if it is unknown."""
    done = run("networkctl", "--version")
    found = re.match(r"systemd (\d+)", done.stdout) if done is not None else None
    return int(found[1]) if found is not None else 0
