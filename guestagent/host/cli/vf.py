"""The commands ``guestagent-host vf …``: list VFs, and claim and release them by hand."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from guestagent.errors import EXIT_DONE, ConfigurationError, GuestAgentError
from guestagent.host.config import description
from guestagent.host.model import End, PairConfig, Vm
from guestagent.host.report import vf_result
from guestagent.host.sriov.base import VfPool
from guestagent.host.sriov.core.model import Inventory, Lease, LeaseOwner, Macvtap
from guestagent.host.sriov.pool import host_pool
from guestagent.host.store.journal import lock_of_idle_vm

log = logging.getLogger(__name__)

_LIST = """\
Show every PF with its VFs: driver, IOMMU group, MAC and VLAN, and the owner: a lease,
a process that has it open, or this host itself."""

_CLAIM = """\
Claim a VF for each pair of the description that has [pair.sriov], program it through its
PF and bind it to vfio-pci: it is ready for QEMU then. No other helper claims it until
`vf release`. A repeated claim returns the same VF, also while QEMU uses it."""

_RELEASE = """\
Clear the MAC and VLAN of a VM's VFs, restore their drivers, and end their leases.
Refused while a process has the VF open, and until an unfinished operation on the VM is
recovered."""

LETTING_GO_S = 1.0
"""Longer than QEMU needs to close a VF that was just unplugged."""
MAX_WAIT_S = 3600.0


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``vf`` to the program's."""
    parser = commands.add_parser(
        "vf",
        help="list the VFs of this host, claim and release them by hand",
        description="The VFs of this host, and leases on them.",
    )
    actions = parser.add_subparsers(dest="action", required=True)
    for name, short, text in (
        ("list", "show every PF with its VFs, and the owner of each", _LIST),
        ("claim", "make a VM's VFs ready for QEMU, and reserve them for it", _CLAIM),
        ("release", "clear VFs and end their leases", _RELEASE),
    ):
        action = actions.add_parser(
            name,
            help=short,
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        action.add_argument("--json", action="store_true", help="print one JSON object on stdout")
        action.add_argument("--verbose", action="store_true", help="log more, on stderr")
        action.add_argument(
            "--state-dir",
            type=Path,
            default=description.STATE_DIR,
            metavar="DIR",
            help="where leases are kept, the same for all helpers"
            f" (default: {description.STATE_DIR})",
        )
        if name != "list":
            action.add_argument(
                "--wait",
                type=_seconds,
                default=LETTING_GO_S,
                metavar="SECONDS",
                help="wait for a process that is about to close the VF"
                f" (default: {LETTING_GO_S:g})",
            )
        if name == "claim":
            _add_claim_options(action)
        elif name == "release":
            action.add_argument(
                "vm", metavar="VM.toml", type=Path, nargs="?", help="release all VFs of this VM"
            )
            action.add_argument(
                "--vf", metavar="ADDRESS", help="release this VF only, such as 0000:3b:02.1"
            )


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from error
    if not 0.0 <= number <= MAX_WAIT_S:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to {MAX_WAIT_S:g} seconds")
    return number


def _add_claim_options(action: argparse.ArgumentParser) -> None:
    action.add_argument("vm", metavar="VM.toml", type=Path, help="the VM's description")
    action.add_argument(
        "--on",
        type=End,
        choices=list(End),
        default=End.SOURCE,
        metavar="SIDE",
        help="source (the default) or destination: the end whose VFs are on this host",
    )
    action.add_argument("--mac", help="for the pair with this MAC only")
    action.add_argument(
        "--reserve",
        action="store_true",
        help="only claim it: while the guest runs elsewhere, its MAC must not be here yet",
    )
    action.add_argument(
        "--macvtap",
        metavar="NAME",
        help="make a macvtap for the standby on the VF's PF (one pair; the others with --mac)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run one of the commands and print its result; return the exit code."""
    match arguments.action:
        case "list":
            listed = asyncio.run(_list(arguments.state_dir))
            print(vf_result.listed_as_json(listed) if arguments.json else vf_result.listed(listed))
        case "claim":
            vm = description.load(arguments.vm)
            pairs = _pairs(vm, arguments.on, arguments.mac)
            if arguments.macvtap is not None and len(pairs) != 1:
                raise ConfigurationError(
                    f"{vm.name}: --macvtap is for one pair, and {len(pairs)} would be claimed for",
                    hint="name the pair with --mac, and claim for one pair at a time",
                )
            with lock_of_idle_vm(arguments.state_dir, vm.name):
                claimed = asyncio.run(_claim(vm, pairs, arguments))
            print((vf_result.claimed_as_json if arguments.json else vf_result.claimed)(claimed))
        case _:
            released, failures = asyncio.run(_release(arguments))
            if released or not failures:
                show = vf_result.released_as_json if arguments.json else vf_result.released
                print(show(released))
            for failure in failures[1:]:
                log.error("%s", failure)
            if failures:
                raise failures[0]
    return EXIT_DONE


@asynccontextmanager
async def _pool(
    state_dir: Path, *, close_timeout_s: float = LETTING_GO_S
) -> AsyncIterator[VfPool]:
    pool = host_pool(state_dir, close_timeout_s=close_timeout_s)
    try:
        yield pool
    finally:
        await pool.close()


async def _list(state_dir: Path) -> Inventory:
    if os.geteuid() != 0:
        log.warning("not run as root: a VF that another user's process has open is shown as free")
    async with _pool(state_dir) as pool:
        return await pool.inventory()


def _pairs(vm: Vm, end: End, mac: str | None) -> tuple[PairConfig, ...]:
    described = [pair for pair in vm.pairs if pair.sriov_on(end) is not None]
    if not described:
        raise ConfigurationError(
            f"{vm.name}: no pair has a table that describes its VF at the {end}",
            hint="add [pair.sriov]; guestagent-host --help shows an example",
        )
    wanted = tuple(pair for pair in described if mac is None or pair.mac == mac.lower())
    if not wanted:
        raise ConfigurationError(
            f"{vm.name}: no pair with [pair.sriov] has MAC {mac}",
            hint=f"these have: {', '.join(pair.mac for pair in described)}",
        )
    return wanted


async def _claim(
    vm: Vm, pairs: Sequence[PairConfig], arguments: argparse.Namespace
) -> tuple[vf_result.Claimed, ...]:
    async with _pool(arguments.state_dir, close_timeout_s=arguments.wait) as pool:
        return await claim_all(
            pool, vm, pairs, arguments.on, reserve=arguments.reserve, macvtap=arguments.macvtap
        )


async def claim_all(
    pool: VfPool,
    vm: Vm,
    pairs: Sequence[PairConfig],
    end: End,
    *,
    reserve: bool = False,
    macvtap: str | None = None,
) -> tuple[vf_result.Claimed, ...]:
    """Claim a VF for each pair; on failure release those that this call claimed.

    A pair with a lease of an earlier claim keeps it. ``reserve`` does not program the VF.
    """
    before = await pool.leases(vm.name)
    users = {vf.address: vf.user for pf in (await pool.inventory()).pfs for vf in pf.vfs}
    done: list[vf_result.Claimed] = []
    taken: list[Lease] = []
    try:
        for pair in pairs:
            provision, owner = pair.sriov_on(end), LeaseOwner.by_hand(vm.name, pair.mac)
            if provision is None:
                raise ConfigurationError(f"{vm.name}: pair {pair.mac} has no [pair.sriov]")
            mine = (
                lease
                for lease in before
                if lease.owner == owner or lease.is_for(vm.name, pair.mac)
            )
            lease = next(mine, None)
            if lease is None:
                lease = await pool.claim(provision.want, owner)
                taken.append(lease)
            made: Macvtap | None = None
            if macvtap is not None:
                made = await pool.create_macvtap(lease, macvtap, pair.mac)
            user, settings = users.get(lease.vf), provision.settings
            is_in_use_as_described = user is not None and lease.settings == settings
            if not reserve and not is_in_use_as_described:
                lease = await pool.program(lease, settings)
            done.append(vf_result.Claimed(mac=pair.mac, lease=lease, macvtap=made, user=user))
    except GuestAgentError:
        for lease in taken:
            await pool.release(lease)
        raise
    return tuple(done)


async def _release(
    arguments: argparse.Namespace,
) -> tuple[list[vf_result.Released], list[GuestAgentError]]:
    """Release the requested VFs; a failure for one does not keep the others."""
    if arguments.vm is None and arguments.vf is None:
        raise ConfigurationError(
            "vf release: neither a VM nor a VF is given", hint="give VM.toml or --vf ADDRESS"
        )
    name = None if arguments.vm is None else description.load(arguments.vm).name
    released: list[vf_result.Released] = []
    failures: list[GuestAgentError] = []
    async with _pool(arguments.state_dir, close_timeout_s=arguments.wait) as pool:
        leases = [each for each in await pool.leases(name) if arguments.vf in {None, each.vf}]
        for vm in dict.fromkeys(lease.owner.vm for lease in leases):
            with lock_of_idle_vm(arguments.state_dir, vm):
                for lease in (each for each in leases if each.owner.vm == vm):
                    try:
                        warnings = await pool.release(lease)
                    except GuestAgentError as error:
                        failures.append(error)
                    else:
                        released.append(vf_result.Released(lease=lease, warnings=warnings))
    return released, failures
