"""Guests for tests: booted once for each setup, then started again and again from that state."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from lab.image import Image
from lab.machine import Frozen, Machine
from lab.network import Network
from lab.setup import Setup


class Freezer:
    """Keeps one frozen guest for each setup, below ``directory``, for as long as a test session.

    A setup is frozen with no VF plugged and its start-up finished.
    """

    def __init__(self, *, image: Image, directory: Path, logs: Path) -> None:
        self.image = image
        self._directory = directory
        self._logs = logs
        self._frozen: dict[str, Frozen] = {}

    def frozen(self, setup: Setup) -> Frozen:
        """Return the frozen guest of a setup, booting it the first time."""
        key = repr(setup)
        if key not in self._frozen:
            number = len(self._frozen)
            logs = self._logs / f"frozen-{number}"
            with (
                Network() as network,
                Machine(image=self.image, network=network, setup=setup, logs=logs) as machine,
            ):
                machine.wait_ready()
                machine.run("udevadm settle")
                machine.collect_logs()
                self._frozen[key] = machine.freeze(self._directory / str(number))
        return self._frozen[key]


class Guests:
    """Starts the guests of one test on one network; all of them end with ``stack``."""

    def __init__(
        self, *, freezer: Freezer, network: Network, logs: Path, stack: ExitStack
    ) -> None:
        self.network = network
        self._freezer = freezer
        self._logs = logs
        self._stack = stack

    def start(self, setup: Setup | None = None) -> Machine:
        """Return a guest that is up, in the same state each time, without a VF; takes a second."""
        frozen = self._freezer.frozen(setup or Setup())
        return self._stack.enter_context(
            Machine.thaw(frozen, network=self.network, logs=self._logs)
        )

    def boot(self, setup: Setup) -> Machine:
        """Return a guest whose start-up has just begun; see ``Machine.wait_ready``."""
        return self._stack.enter_context(
            Machine(image=self._freezer.image, network=self.network, setup=setup, logs=self._logs)
        )

    def destination(self, source: Machine) -> Machine:
        """Return a QEMU on host B that waits for the guest of ``source``."""
        return self._stack.enter_context(Machine.destination(source))
