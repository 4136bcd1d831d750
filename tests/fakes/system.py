"""A whole guest in memory: the fake kernel with udev, a network stack, memory and a clock."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path

from guestagent.guest.core.announcement import Frame
from guestagent.guest.core.link import Autoconfiguration
from guestagent.guest.core.policy import Policy
from guestagent.guest.core.snapshot import RememberedPair, StackFile
from guestagent.guest.reconcile.apply import Applier
from guestagent.guest.reconcile.engine import Engine
from guestagent.guest.reconcile.observe import Observer
from guestagent.guest.reconcile.stability import Stability
from guestagent.guest.stacks.base import NetworkStack, Nic, Ownership, Strength
from guestagent.guest.stacks.select import Stacks
from guestagent.guest.state.undone_pairs import UndonePairs
from tests.fakes.kernel import FakeKernel


@dataclass
class FakeUdev:
    """Has finished with every NIC but those in ``busy``."""

    busy: set[str] = field(default_factory=set)

    def finished_with(self, name: str) -> bool:
        return name not in self.busy

    def properties(self, name: str) -> Mapping[str, str]:
        return {}


@dataclass
class FakeStack(NetworkStack):
    """Owns every NIC and wants one file for each bond, on a disk in memory."""

    directories: tuple[Path, ...] = (Path("/run"),)
    strengths: dict[str, Strength] | None = None
    """Strength of its answer by the name of the NIC; None if it has every NIC."""
    disk: dict[str, str] = field(default_factory=dict)
    loaded: dict[str, str] = field(default_factory=dict)
    detached: list[str] = field(default_factory=list)
    conflicts: dict[str, str] = field(default_factory=dict)
    """Reason why a NIC cannot be a port, by its name."""
    pre_takeover: str | None = None
    """Content of the file of a bond until the bond takes over."""
    autoconfigures: Autoconfiguration = Autoconfiguration.KERNEL

    def ownership(self, nic: Nic) -> Ownership:
        if self.strengths is None:
            return Ownership(Strength.CONFIGURED)
        return Ownership(self.strengths.get(nic.link.name, Strength.NO))

    def conflict(self, nic: Nic) -> str | None:
        return self.conflicts.get(nic.link.name)

    def autoconfiguration(self, nic: Nic) -> Autoconfiguration:
        return self.autoconfigures

    def files(self, nic: Nic, *, owned: bool) -> tuple[StackFile, ...]:
        return (self._file(f"/run/{nic.bond}", f"{nic.bond} {nic.mac}", self.pre_takeover),)

    def files_for_return(self, nic: Nic, *, owned: bool) -> tuple[StackFile, ...]:
        if not owned:
            return ()
        return (self._file(f"/run/{nic.bond}-standby", f"{nic.link.name} as before"),)

    def write(self, path: str, content: str) -> None:
        self.disk[path] = content

    def detach(self, bond: str, device: str) -> None:
        self.detached.append(device)

    def reload(self, bond: str) -> None:
        self.loaded = dict(self.disk)

    def give_back(self, bond: str) -> None:
        self.disk.pop(f"/run/{bond}", None)

    def _file(self, path: str, content: str, pre_takeover: str | None = None) -> StackFile:
        in_place = self.disk.get(path) == content
        return StackFile(
            path=path,
            content=content,
            in_place=in_place,
            pre_takeover_content=pre_takeover,
        )


@dataclass
class FakeMemory:
    """Remembers in memory."""

    pairs: list[RememberedPair] = field(default_factory=list)

    def load(self) -> tuple[RememberedPair, ...]:
        return tuple(self.pairs)

    def add(self, item: RememberedPair) -> None:
        self.pairs = [pair for pair in self.pairs if pair.mac != item.mac] + [item]


@dataclass
class FakeUndone(UndonePairs):
    """Undone pairs in memory."""

    macs: set[str] = field(default_factory=set)

    def current(self) -> frozenset[str]:
        return frozenset(self.macs)

    def add(self, macs: AbstractSet[str]) -> None:
        self.macs |= macs

    def remove(self, macs: AbstractSet[str]) -> None:
        self.macs -= macs


@dataclass
class FakeSystem:
    """Parts of an engine, with a clock that the test moves."""

    kernel: FakeKernel = field(default_factory=FakeKernel)
    udev: FakeUdev = field(default_factory=FakeUdev)
    stack: FakeStack = field(default_factory=FakeStack)
    memory: FakeMemory = field(default_factory=FakeMemory)
    undone: FakeUndone = field(default_factory=FakeUndone)
    sent: list[Frame] = field(default_factory=list)
    now_s: float = 1000.0

    def __post_init__(self) -> None:
        self.stability = Stability(lambda: self.now_s)

    def engine(self, policy: Policy | None = None) -> Engine:
        """Return a fresh engine, as after a restart of the agent."""
        observer = Observer(
            kernel=self.kernel,
            udev=self.udev,
            stacks=Stacks((self.stack,)),
            remembered=self.memory.load,
            undone=self.undone.current,
            stability=self.stability,
        )
        applier = Applier(
            kernel=self.kernel,
            stacks=Stacks((self.stack,)),
            remember=self.memory.add,
            send=self._send,
        )
        return Engine(
            policy=policy or Policy(), kernel=self.kernel, observer=observer, applier=applier
        )

    def _send(self, frames: tuple[Frame, ...]) -> int:
        self.sent.extend(frames)
        return len(frames)

    def later(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds


def paired(system: FakeSystem, mac: str) -> tuple[int, int]:
    """Plug in a standby and a VF, and return the two."""
    standby = system.kernel.plug(f"ens{system.kernel.next_ifindex}", mac, driver="virtio_net")
    vf = system.kernel.plug(f"ens{system.kernel.next_ifindex}", mac)
    return standby, vf


def assert_on(system: FakeSystem, port: int, bond: str = "bond0") -> None:
    """Assert which port of a bond is active."""
    state = system.kernel.named(bond).bond
    assert state is not None
    assert state.active == port
