"""Facts about the guest and about one NIC, from files and commands.

``root`` is the root of the file system, so that a test can lay one out.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from guestagent.guest.doctor.facts import BondingModule, CloudInitState, UnitState
from guestagent.guest.doctor.system import CHANNEL, EARLY, HIDE, SERVICE

ROOT = Path("/")
COMMAND_TIMEOUT_S = 20.0
_ADMIN_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
_NETWORK_DISABLED = re.compile(r"^\s*network:\s*(?:\{\s*)?config:\s*disabled", re.MULTILINE)
_MAC_FROM_RANDOM = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """Output of a command and whether it succeeded."""

    ok: bool
    stdout: str


def run(*argv: str) -> Ran | None:
    """Run a read-only command; None if it is missing or does not end in time."""
    program = shutil.which(argv[0], path=_ADMIN_PATH)
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, *argv[1:]],
            check=False,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Ran(ok=done.returncode == 0, stdout=done.stdout)


def bonding_module(root: Path = ROOT) -> BondingModule:
    """Ask modprobe for the module that the kernel would load, without loading it.

    The kernel asks for the alias, which a ``blacklist`` line hides (modprobe.d(5); K:
    net/core/rtnetlink.c, __rtnl_newlink (6.12)); an ``install`` line replaces the module by
    a command.
    """
    if (root / "sys/module/bonding").exists():
        return BondingModule.READY
    alias = run("modprobe", "--show-depends", "rtnl-link-bond")
    if alias is not None and alias.ok and not re.search("^install ", alias.stdout, re.MULTILINE):
        return BondingModule.READY
    module = run("modprobe", "--show-depends", "bonding")
    there = module is not None and module.ok
    return BondingModule.BLOCKED if there else BondingModule.MISSING


def units(root: Path = ROOT) -> tuple[UnitState, ...]:
    """Return the agent's units; none without systemd."""
    if not (root / "run/systemd/system").is_dir():
        return ()
    wanted = "--property=Id,LoadState,UnitFileState,ActiveState,Result"
    done = run("systemctl", "show", wanted, SERVICE, EARLY, HIDE)
    return parse_units(done.stdout) if done is not None and done.ok else ()


def parse_units(text: str) -> tuple[UnitState, ...]:
    """Parse the output of ``systemctl show``: a block of lines for each unit."""
    blocks = [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for block in text.split("\n\n")
    ]
    return tuple(
        UnitState(
            name=block["Id"],
            installed=block.get("LoadState") != "not-found",
            enabled=block.get("UnitFileState", "").startswith(("enabled", "static", "linked")),
            active=block.get("ActiveState", ""),
            result=block.get("Result", ""),
        )
        for block in blocks
        if "Id" in block
    )


def cloud_init(root: Path = ROOT) -> CloudInitState:
    """Return cloud-init's progress from its files (cloud-init: doc/rtd/explanation/boot.rst)."""
    run_dir = root / "run/cloud-init"
    installed = any((root / name).exists() for name in ("usr/bin/cloud-init", "bin/cloud-init"))
    disabled = (run_dir / "disabled").exists() or (root / "etc/cloud/cloud-init.disabled").exists()
    if not installed or disabled:
        return CloudInitState.ABSENT
    status = "".join(_text(run_dir / name) for name in ("status.json", "result.json"))
    if "duplicate mac" in status:
        return CloudInitState.DUPLICATE_MAC
    if (root / "var/lib/cloud/instance/boot-finished").exists():
        return CloudInitState.DONE
    etc = root / "etc/cloud"
    settings = [etc / "cloud.cfg", *sorted((etc / "cloud.cfg.d").glob("*.cfg"))]
    if any(_NETWORK_DISABLED.search(_text(file)) for file in settings):
        return CloudInitState.ABSENT
    return CloudInitState.PENDING


def has_channel(name: str = CHANNEL, root: Path = ROOT) -> bool:
    """Whether the guest has a virtio-serial port with this name."""
    if (root / "dev/virtio-ports" / name).exists():
        return True
    ports = (root / "sys/class/virtio-ports").glob("*/name")
    return any(_text(port).strip() == name for port in ports)


def has_journal_library() -> bool:
    """Whether python3-systemd is installed."""
    try:
        return importlib.util.find_spec("systemd.journal") is not None
    except ModuleNotFoundError:
        return False


def made_up_mac(name: str, root: Path = ROOT) -> bool:
    """Whether the driver made a NIC's MAC up (K: include/uapi/linux/netdevice.h, NET_ADDR_RANDOM).

    The kernel clears this when a program sets an address.
    """
    return _text(root / "sys/class/net" / name / "addr_assign_type").strip() == _MAC_FROM_RANDOM


def packets(name: str, direction: str, root: Path = ROOT) -> int:
    """Return the number of packets that a NIC has received (``rx``) or sent (``tx``)."""
    return _number(root / "sys/class/net" / name / f"statistics/{direction}_packets")


def firewall() -> tuple[str, ...]:
    """Return the lines of all packet filters, which root alone may read.

    Present iptables makes nftables rules; the legacy iptables has rules of its own.
    """
    commands = (("nft", "list", "ruleset"), ("iptables-legacy-save",), ("ip6tables-legacy-save",))
    done = [run(*command) for command in commands]
    return tuple(line for item in done if item is not None for line in item.stdout.splitlines())


def all_are_filtered(root: Path = ROOT) -> bool:
    """Whether every link has a reverse path filter, whatever its own setting (ip-sysctl.rst)."""
    return _number(root / "proc/sys/net/ipv4/conf/all/rp_filter") > 0


def _number(path: Path) -> int:
    text = _text(path).strip()
    return int(text) if text.isdigit() else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
