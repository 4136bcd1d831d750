"""Migrations with VFs of a real PF, the helper killed at every point that concerns them.

    python -m tests.guest.killed_in_guest PF

Prints one JSON object: for each point, what was wrong after ``recover`` (an empty list where all
was well). One host is source and destination of its guests. The QEMUs are fakes, but each has its
VF open through vfio as a real one does, so that nobody else can have it, and closes it later than
it says. The helper is the installed program, in a process of its own.

Points are those of the journal, before and after the effect of each phase that concerns VFs, and
between any two changes within these phases: to the PF, to a driver, to the record of a lease.
Each migration begins where the one before has left the guest.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guestagent.findings import Finding
from guestagent.host.cli import main as cli
from guestagent.host.model import End, QemuState
from guestagent.host.preflight.findings import EndFacts, PreflightFacts
from guestagent.host.run import operation
from guestagent.host.sriov.base import LocalVfPool
from guestagent.host.sriov.core.model import Lease
from guestagent.host.sriov.netlink import NetlinkLinks
from guestagent.host.sriov.pool import Pool, pool_in_thread
from guestagent.host.sriov.records import Records
from guestagent.host.sriov.vfio import Roots, Vfio, driver_of, group_of, write_attribute
from tests.fakes.faults import Ending
from tests.fakes.qmp import FakeQemu
from tests.vm.mortal import at_points, die

MAC = "52:54:00:aa:00:01"
VLAN = 7
LETS_GO_AFTER_S = 0.2
MOST_CHANGES = 60
ROOTS = Roots()
HOME = Path("/run/killed")
DESCRIPTION = HOME / "web1.toml"
STATE = HOME / "state"
TEXT = f"""
[source]
qmp = "{HOME}/source.sock"
[destination]
qmp = "{HOME}/destination.sock"
uri = "unix:{HOME}/migration.sock"
[[pair]]
mac = "{MAC}"
standby = "net0"
vf = {{ driver = "vfio-pci", id = "vf0", bus = "rp2" }}
[pair.sriov]
pf = "physnet1"
vlan = {VLAN}
standby_link = "tap0"
[pair.destination_sriov]
standby_link = "tap1"
"""
CONCERNED = ("reserve", "withdraw", "program", "reprogram", "tidy")
MIGRATED = ("reserve", "withdraw", "program", "tidy")
CANCELLED = ("reprogram", "restore", "tidy")

Json = Any
Kill = Callable[[], None]


class VfioQemu(FakeQemu):
    """Has the groups of its VFs open; a group is opened by one process at a time."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.held: dict[str, int] = {}

    def hold(self, device: str, vf: str) -> None:
        """Open a VF's group. Raises OSError when somebody has it."""
        group = group_of(ROOTS.device(vf))
        self.held[device] = os.open(f"/dev/vfio/{group}", os.O_RDWR)

    def _device_add(self, **device: Any) -> object:
        super()._device_add(**device)
        try:
            self.hold(device["id"], device["host"])
        except OSError:
            del self.devices[device["id"]]
            raise
        return {}

    def _release(self, device: str) -> None:
        super()._release(device)
        asyncio.get_running_loop().call_later(
            LETS_GO_AFTER_S, lambda: os.close(self.held.pop(device))
        )

    def _x_devices(self) -> object:
        return {name: device["host"] for name, device in self.devices.items()}


def forked(run: Callable[[], int]) -> int:
    """Run something in a process of its own, and return which; its value is the exit code."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = run()
        finally:
            os._exit(code)
    return pid


@contextmanager
def child(run: Callable[[], int]) -> Iterator[int]:
    """Run something in a process of its own, which is dead in the end."""
    pid = forked(run)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@contextmanager
def qemus(vf: str, ending: Ending) -> Iterator[None]:
    """Run a source with a guest on ``vf``, and a destination that waits for it."""
    ready, ready_writer = os.pipe()

    async def serve() -> None:
        source = VfioQemu(path=HOME / "source.sock", ending=ending)
        source.devices["vf0"] = {"driver": "vfio-pci", "bus": "rp2", "host": vf}
        source.hold("vf0", vf)
        destination = VfioQemu(path=HOME / "destination.sock", run_state="inmigrate")
        source.peer = destination
        async with source.serving(), destination.serving():
            os.write(ready_writer, b".")
            await asyncio.Event().wait()

    def run() -> int:
        asyncio.run(serve())
        return 0

    with child(run):
        os.close(ready_writer)
        try:
            if not os.read(ready, 1):
                raise RuntimeError("the QEMUs do not start")
        finally:
            os.close(ready)
        yield


def ask(end: str, command: str) -> Json:
    """Ask a QEMU; None where it has ended."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(HOME / f"{end}.sock"))
        except OSError:
            return None
        lines = client.makefile()
        lines.readline()
        for each in ("qmp_capabilities", command):
            client.sendall(json.dumps({"execute": each}).encode())
            answer = json.loads(lines.readline())
        return answer["return"]


def helper(*words: str, prepare: Callable[[], None] = lambda: None) -> tuple[int, Json]:
    """Run a command of the helper; return its exit code (negative: the signal) and report."""
    out = HOME / "out"

    def run() -> int:
        with out.open("w") as file:
            os.dup2(file.fileno(), 1)
        with (HOME / "err").open("a") as file:
            os.dup2(file.fileno(), 2)
        prepare()
        code = cli.main([*words, "--json", "--state-dir", str(STATE)])
        sys.stdout.flush()
        return code

    code = os.waitstatus_to_exitcode(os.waitpid(forked(run), 0)[1])
    text = out.read_text()
    return code, json.loads(text) if text.strip() else None


# --- where it is killed ---------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Death:
    """When the helper dies: at a point of its journal, or at its ``change``-th change.

    Counted are the changes that follow another one within a phase that concerns VFs; points of a
    cancelled migration are those from then on.
    """

    point: tuple[str, str] | None = None
    change: int | None = None
    cancelled: bool = False
    phase: str = ""
    changes: int = 0
    is_first: bool = True
    begun: bool = True

    def arm(self) -> None:
        """Have this process die then."""
        self.begun = not self.cancelled
        at_points(self.reached)
        operation.host_pool = self._pool  # type: ignore[attr-defined, assignment]
        # The check before changes nothing, and takes a third of the time.
        operation._look = _looked_at_nothing
        operation.check_facts = _nothing_wrong  # type: ignore[attr-defined, assignment]
        for name in ("create", "replace", "remove"):
            setattr(Records, name, self._counted(getattr(Records, name)))

    def reached(self, when: str, phase: str) -> None:
        """Hear of a point of the journal."""
        if (when, phase) == self.point and self.begun:
            die()
        if (when, phase) == ("before", "migrate") and self.cancelled and not self.begun:
            os.kill(os.getpid(), signal.SIGINT)
        self.begun = self.begun or phase == "cancel"
        self.phase, self.is_first = phase if when == "before" else "", True

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            if self.begun and self.phase in CONCERNED:
                if not self.is_first:
                    if self.changes == self.change:
                        die()
                    self.changes += 1
                self.is_first = False
            return function(*arguments, **named)

        return counted

    def _pool(self, state_dir: Path) -> LocalVfPool:
        def make() -> Pool:
            links = NetlinkLinks()
            links._change = self._counted(links._change)  # type: ignore[method-assign]
            vfio = Vfio(write=self._counted(write_attribute))
            return Pool(state_dir / "vfs", links, vfio=vfio)

        return pool_in_thread(make)


async def _looked_at_nothing(*_: object, **__: object) -> PreflightFacts:
    return PreflightFacts(
        source=EndFacts(view=QemuState(end=End.SOURCE)), destination=None, guest=None
    )


def _nothing_wrong(*_: object) -> tuple[Finding, ...]:
    return ()


# --- what has to be so ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The one host; ``vfs`` are the addresses of its VFs, ``clean`` what the PF says of each."""

    pf: str
    vfs: tuple[str, ...]
    clean: tuple[Json, ...]

    def shown(self) -> tuple[Json, ...]:
        """Return the VFs as iproute2 shows them."""
        (link,) = _output_json("ip", "-json", "-details", "link", "show", "dev", self.pf)
        return tuple(link["vfinfo_list"])

    def everything(self) -> Json:
        """Return all that a second ``recover`` could change."""
        return (
            self.shown(),
            self._drivers(),
            {str(path): path.read_bytes() for path in sorted(STATE.rglob("*.json*"))},
            _output("bridge", "fdb", "show"),
            [ask(end, "x-devices") for end in ("source", "destination")],
        )

    def leases(self) -> tuple[Lease, ...]:
        """Return the leases that are left."""
        return tuple(Records(STATE / "vfs").all().values())

    def _drivers(self) -> dict[str, str | None]:
        return {vf: driver_of(ROOTS.device(vf)) for vf in self.vfs}

    def problems(self) -> Iterator[str]:
        """Yield what is not as it has to be once a guest is where it stays."""
        state = {end: ask(end, "query-status") for end in ("source", "destination")}
        here = [end for end, status in state.items() if status and status["running"]]
        if len(here) != 1:
            yield f"{len(here)} guests run"
            return
        has = {end: ask(end, "x-devices") or {} for end in state}
        used = has.pop(here[0])
        if set(used) != {"vf0"} or any(has.values()):
            yield f"the guest at {here[0]} has {used}, the other side {has}"
            return
        vf = used["vf0"]
        for index, (address, shown) in enumerate(zip(self.vfs, self.shown(), strict=True)):
            tags = [tag.get("vlan", 0) for tag in shown.get("vlan_list", [])]
            if address == vf and (shown["address"], tags) != (MAC, [VLAN]):
                yield f"{address}, which the guest uses, is {shown}"
            if address != vf and shown != self.clean[index]:
                yield f"{address}, which nobody uses, is {shown}"
        if self._drivers() != {each: "vfio-pci" if each == vf else None for each in self.vfs}:
            yield f"the drivers are {self._drivers()}"
        leases = {(lease.vf, lease.owner.vm) for lease in self.leases()}
        if leases != {(vf, "web1")}:
            yield f"the leases are {leases}"
        if MAC in _output("bridge", "fdb", "show"):
            yield f"frames to the guest go to its standby: {_output('bridge', 'fdb', 'show')}"


def _output(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def _output_json(*argv: str) -> Json:
    return json.loads(_output(*argv))


def hold(host: Host, death: Death) -> list[str] | None:
    """Kill a migration, recover, and return what is wrong then; None where it did not die."""
    (lease,) = host.leases()
    problems: list[str] = []
    with qemus(lease.vf, Ending.NEVER if death.cancelled else Ending.COMPLETES):
        code, report = helper("migrate", str(DESCRIPTION), prepare=death.arm)
        died = code == -signal.SIGKILL
        if not died and (report is None or (code == 0) is death.cancelled):
            problems.append(f"it was not killed and ended with {code}: {report}")
        code, report = helper("recover", str(DESCRIPTION))
        if code != 0 or (died and report["result"] not in {"done", "undone"}):
            problems.append(f"recover ended with {code}: {report}")
        problems += host.problems()
        before = host.everything()
        code, report = helper("recover", str(DESCRIPTION))
        if (code, report["result"]) != (0, "nothing") or host.everything() != before:
            problems.append(f"a second recover changed something: {report}")
    return problems if died or problems else None


def all_points(host: Host) -> Iterator[tuple[str, list[str]]]:
    """Yield every point and what was wrong after it."""
    for cancelled, phases in ((False, MIGRATED), (True, CANCELLED)):
        way = "cancelled" if cancelled else "migrated"
        for phase in phases:
            for when in ("before", "after"):
                found = hold(host, Death(point=(when, phase), cancelled=cancelled))
                yield f"{way}: {when} {phase}", ["was not reached"] if found is None else found
        for change in range(0 if cancelled else MOST_CHANGES):
            found = hold(host, Death(change=change, cancelled=cancelled))
            if found is None:
                break
            yield f"{way}: change {change + 1}", found


def main(pf: str) -> None:
    """Hold all points and print what came of them."""
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir()
    DESCRIPTION.write_text(TEXT)
    device = Path("/sys/class/net") / pf / "device"
    vfs = sorted(device.glob("virtfn*"), key=lambda path: int(path.name.removeprefix("virtfn")))
    host = Host(pf=pf, vfs=tuple(path.resolve().name for path in vfs), clean=())
    host = Host(pf=pf, vfs=host.vfs, clean=host.shown())
    NetlinkLinks().links()  # loads for all children what pyroute2 loads late
    helper("vf", "claim", str(DESCRIPTION))
    points = dict(all_points(host))
    helper("vf", "release", str(DESCRIPTION))
    if host.shown() != host.clean or host.leases():
        points["released"] = [f"the VFs are {host.shown()} with leases {host.leases()}"]
    print(json.dumps(points))


if __name__ == "__main__":
    main(sys.argv[1])
