"""A guest in QEMU.

**Disk.** A guest writes to a qcow2 overlay on the image. Both QEMUs of a migration open the same
overlay: the destination takes no lock and trusts no metadata before the source has given the
image up (Q: block.c, bdrv_activate), and on one machine both see one page cache.
``snapshot=on`` would give each QEMU an overlay of its own, and the destination a disk that lacks
what the source had written.

**Frozen guests.** ``freeze`` keeps the memory and the disk of a booted guest; a machine started
from that needs a second instead of a boot, and always begins in the same state.

**Sockets** are in ``Machine.directory``: ``qmp-host.sock`` (for the host helper; the lab has one
of its own), ``qga.sock`` and ``agent.sock`` (port org.guestagent.0).

QEMU dies with the process that started it, however that ends.
"""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from guestagent.errors import DeadlineError, GuestAgentError, PeerError, UnknownOutcomeError
from lab.base.process import end, run
from lab.base.runs import make_directory
from lab.image import seed
from lab.image.build import Image
from lab.machine.accelerator import TCG, accelerator
from lab.machine.command_line import MONITORS, BootFiles, command_line, serial_ports
from lab.machine.commands import Commands, Completed, QemuGoneError
from lab.machine.faults import EmulatorFault, QemuEndedFault, epitaph, fault
from lab.machine.guest import BOOT_TIMEOUT_S, COMMAND_TIMEOUT_S, CommandGuest
from lab.machine.monitor import EVENT_TIMEOUT_S, Json, Monitor, QmpEvent
from lab.machine.setup import NicPair, Setup
from lab.network.wires import Network

UNPLUG_TIMEOUT_S = 120.0
MIGRATION_TIMEOUT_S = 120.0
QUIT_TIMEOUT_S = 10.0
SOUND_BOOT_S = 120.0
"""A guest that has not started by then never will, if its log says that the emulator is broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """The memory and the disk of a booted guest."""

    image: Image
    setup: Setup
    directory: Path

    @property
    def memory(self) -> Path:
        """File that QEMU wrote: the state of memory and devices."""
        return self.directory / "memory"

    @property
    def disk(self) -> Path:
        """The overlay at that moment; read only from now on."""
        return self.directory / "disk.qcow2"


class Machine(CommandGuest):
    """A QEMU with one guest; a context manager, started at its beginning and gone at its end.

    ``logs`` gets ``<name>-serial.log``, ``<name>-qemu.log`` and ``<name>-journal.txt``.
    Made by ``Machine(…)`` it boots; the other ways are ``Machine.thaw`` and
    ``Machine.destination``.

    :raise PeerError: QEMU did not start; the text says why.
    """

    def __init__(
        self,
        *,
        image: Image,
        network: Network,
        logs: Path,
        setup: Setup | None = None,
        frozen: Frozen | None = None,
        disk: Path | None = None,
        console: bool = False,
    ) -> None:
        """``disk`` is the overlay of the source, for a machine that awaits a migration."""
        super().__init__(setup or Setup())
        self.directory = make_directory()
        self._image = image
        self._network = network
        self._logs = logs
        self._frozen = frozen
        self._disk = disk
        self._console = console
        self._cleanup = ExitStack()

    @classmethod
    def thaw(cls, frozen: Frozen, *, network: Network, logs: Path, name: str = "") -> Machine:
        """Return a machine that goes on from a frozen guest."""
        setup = replace(frozen.setup, name=name or frozen.setup.name)
        return cls(image=frozen.image, network=network, logs=logs, setup=setup, frozen=frozen)

    @classmethod
    def destination(cls, source: Machine, *, host: str = "B", name: str = "dest") -> Machine:
        """Return a machine that ``source`` can migrate to (``-incoming defer``), without VFs."""
        return cls(
            image=source._image,
            network=source._network,
            logs=source._logs,
            setup=replace(source.setup, host=host, name=name),
            disk=source.disk,
        )

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, self.directory)
            self._start(stack)
            self._cleanup = stack.pop_all()
        if self._frozen is not None:
            self._load(self._frozen)
        elif self._disk is not None:
            # QEMU announces every NIC of its own for a second after a migration
            # (Q: net/announce.c), so also a stand-in VF that was plugged meanwhile, and hands
            # its MAC address to it before the guest does. It knows nothing of a real VF.
            self.qmp("migrate-set-parameters", announce_rounds=1)
        return self

    def __exit__(self, *_: object) -> None:
        with self._cleanup:
            self.collect_logs()

    @property
    def disk(self) -> Path:
        """The overlay that the guest writes to."""
        return self._disk or self.directory / "disk.qcow2"

    # -- the guest -----------------------------------------------------------------------------

    def wait_ready(self, *, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """See ``CommandGuest.wait_ready``.

        :raise QemuEndedFault: QEMU ended meanwhile.
        :raise EmulatorFault: the start-up does not end, and the emulator is why.
        """
        sound_s = min(timeout_s, SOUND_BOOT_S)
        try:
            super().wait_ready(timeout_s=sound_s)
        except QemuGoneError as error:
            raise QemuEndedFault(f"{error}\n{self._epitaph()}") from error
        except DeadlineError:
            if said := fault(self._logs):
                raise EmulatorFault(said) from None
            if timeout_s == sound_s:
                raise
            super().wait_ready(timeout_s=timeout_s - sound_s)

    def execute(
        self, script: str, *, stdin: str = "", timeout_s: float = COMMAND_TIMEOUT_S
    ) -> Completed:
        """See ``CommandGuest.execute``; where QEMU has ended, the error says how."""
        try:
            return super().execute(script, stdin=stdin, timeout_s=timeout_s)
        except QemuGoneError as error:
            raise QemuGoneError(f"{error}\n{self._epitaph()}") from error

    def reboot(self) -> None:
        """Reboot the guest from inside and wait until it is ready again.

        The files it was started with are put in place once more.
        """
        seen = len(self.events)
        self.run("systemd-run --on-active=100ms --timer-property=AccuracySec=1ms systemctl reboot")
        self.wait_event("RESET", after=seen, timeout_s=BOOT_TIMEOUT_S)
        self.wait_ready()

    def collect_logs(self) -> None:
        """Write the guest's journal beside the other logs, if the guest can still answer."""
        if self._process.poll() is not None:
            return
        try:
            if self.qmp("query-status")["status"] != "running":
                return
            journal = self.run("journalctl --no-pager --output=short-precise", timeout_s=15)
        except GuestAgentError as error:
            print(f"lab: no journal of {self.setup.name}: {error}", file=sys.stderr)
            return
        self._log("journal.txt").write_text(journal)

    # -- QEMU ----------------------------------------------------------------------------------

    def qmp(self, command: str, **arguments: Json) -> Json:
        """Run a QMP command; see ``Monitor.execute``. Where QEMU has ended, the error says how."""
        try:
            return self._monitor.execute(command, **arguments)
        except UnknownOutcomeError as error:
            if self.alive:
                raise
            raise UnknownOutcomeError(f"{error}\n{self._epitaph()}") from error

    @property
    def events(self) -> tuple[QmpEvent, ...]:
        """All QMP events so far."""
        return self._monitor.events

    def wait_event(
        self,
        name: str,
        *,
        device: str | None = None,
        after: int = 0,
        timeout_s: float = EVENT_TIMEOUT_S,
    ) -> QmpEvent:
        """Wait for a QMP event, of one device if given; see ``Monitor.wait_event``."""
        return self._monitor.wait_event(
            name,
            lambda data: device is None or data.get("device") == device,
            after=after,
            timeout_s=timeout_s,
        )

    def plug_vf(self, pair: NicPair | None = None, *, bus: str | None = None) -> None:
        """Plug the VF of a pair (the first), into its port or another one; returns at once."""
        device = (pair or self.setup.pairs[0]).vf_device()
        self.qmp("device_add", **(device | ({"bus": bus} if bus else {})))

    def unplug_vf(
        self, pair: NicPair | None = None, *, timeout_s: float = UNPLUG_TIMEOUT_S
    ) -> QmpEvent:
        """Ask the guest to give a VF back, and wait until it has.

        :raise DeadlineError: DEVICE_DELETED did not come.
        """
        seen = len(self.events)
        device = (pair or self.setup.pairs[0]).vf
        self.qmp("device_del", id=device)
        return self.wait_event("DEVICE_DELETED", device=device, after=seen, timeout_s=timeout_s)

    def has_device(self, name: str) -> bool:
        """Whether a device with this id is plugged."""
        peripherals = self.qmp("qom-list", path="/machine/peripheral")
        return any(item["name"] == name for item in peripherals)

    def migrate_to(self, destination: Machine) -> None:
        """Migrate without any help from the agent or the host helper; no VF may be plugged.

        :raise PeerError: it failed; the text is QEMU's.
        """
        uri = f"unix:{destination.directory / 'migration.sock'}"
        destination.qmp("migrate-incoming", uri=uri)
        self._migrate(uri)
        destination.wait_event("RESUME")

    def freeze(self, directory: Path) -> Frozen:
        """Stop the guest for ever and keep its memory and disk in ``directory``.

        No VF may be plugged.
        """
        frozen = Frozen(image=self._image, setup=self.setup, directory=directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.qmp("stop")
        self._migrate(f"file:{frozen.memory}")
        shutil.copy(self.disk, frozen.disk)
        return frozen

    def _migrate(self, uri: str) -> None:
        seen = len(self.events)
        self.qmp(
            "migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}]
        )
        self.qmp("migrate-set-parameters", max_bandwidth=1 << 40)
        self.qmp("migrate", uri=uri)
        ended = self._monitor.wait_event(
            "MIGRATION",
            lambda data: data["status"] in {"completed", "failed", "cancelled"},
            after=seen,
            timeout_s=MIGRATION_TIMEOUT_S,
        )
        if ended.data["status"] != "completed":
            raise PeerError(f"{self.setup.name}: migration: {self.qmp('query-migrate')}")

    def _load(self, frozen: Frozen) -> None:
        self.qmp(
            "migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}]
        )
        self.qmp("migrate-incoming", uri=f"file:{frozen.memory}")
        self._monitor.wait_event("MIGRATION", lambda data: data["status"] == "completed")
        self.qmp("cont")

    @property
    def alive(self) -> bool:
        """Whether QEMU still runs."""
        return self._process.poll() is None

    def wait_exit(self) -> int:
        """Wait until QEMU exits unasked and return its exit code."""
        return self._process.wait()

    # -- start ---------------------------------------------------------------------------------

    def _start(self, stack: ExitStack) -> None:
        self._logs.mkdir(parents=True, exist_ok=True)
        if self._disk is None:
            self._make_disk()
        for tap, host in self.setup.taps().items():
            self._network.add_tap(tap, host=host)
            stack.callback(self._network.delete_link, tap)
        with ExitStack() as sockets:
            listeners = {
                name: sockets.enter_context(self._listen(name))
                for name in (*serial_ports(self.setup), *MONITORS)
            }
            argv = self._network.hosts(*self._argv(listeners))
            with self._log("qemu.log").open("w") as output:
                print(shlex.join(argv), file=output, flush=True)
                self._process = subprocess.Popen(
                    # A QEMU that nobody watches any more would stay for ever.
                    ["setpriv", "--pdeathsig", "KILL", *argv],
                    stdin=None if self._console else subprocess.DEVNULL,
                    stdout=None if self._console else output,
                    stderr=output,
                    pass_fds=[listener.fileno() for listener in listeners.values()],
                )
        stack.callback(self._stop)
        try:
            self._monitor = stack.enter_context(
                Monitor(self.directory / "qmp-lab.sock", name=self.setup.name)
            )
        except PeerError as error:
            raise PeerError(
                f"{self.setup.name}: QEMU did not start: {self._log('qemu.log').read_text()}"
            ) from error
        self._commands = Commands(self.directory / "commands.sock", name=self.setup.name)
        stack.callback(self._commands.close)

    def _argv(self, listeners: dict[str, socket.socket]) -> list[str]:
        initrd = self.directory / "initrd"
        seed.write_initrd(initrd, image_initrd=self._image.initrd, files=self.setup.all_files())
        console = "stdio,mux=on,signal=off" if self._console else "null"
        sockets = {
            name: f"socket,id={name},fd={listener.fileno()},server=on,wait=off"
            for name, listener in listeners.items()
        }
        return command_line(
            self.setup,
            BootFiles(kernel=str(self._image.kernel), initrd=str(initrd), disk=str(self.disk)),
            accelerator=TCG if self.setup.emulated else accelerator(self._image),
            netdevs=self.setup.netdevs(),
            chardevs={
                "serial": f"{console},id=serial,logfile={self._log('serial.log')}",
                **sockets,
            },
            awaits_state=self._frozen is not None or self._disk is not None,
        )

    def _make_disk(self) -> None:
        if self._frozen is None:
            backing, backing_format = self._image.disk, "raw"
        else:
            backing, backing_format = self._frozen.disk, "qcow2"
        run(
            *("qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", backing_format),
            self.disk,
        )

    def _listen(self, name: str) -> socket.socket:
        """Make the socket that QEMU gets: it can be connected to from the first moment."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.directory / f"{name}.sock"))
        listener.listen(1)
        return listener

    def _stop(self) -> None:
        end(self._process, QUIT_TIMEOUT_S)

    def _epitaph(self) -> str:
        """Describe the end of QEMU, which closes its sockets a moment before it is gone."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(QUIT_TIMEOUT_S)
        return epitaph(
            self._process.poll(),
            qemu_log=self._log("qemu.log"),
            serial_log=self._log("serial.log"),
        )

    def _log(self, name: str) -> Path:
        return self._logs / f"{self.setup.name}-{name}"
