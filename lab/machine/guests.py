"""Guests for tests: booted once for each setup, then started again and again from that state."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from lab.base.waiting import wait_until
from lab.image.build import Image
from lab.image.flavour import Flavour
from lab.machine.faults import QemuEndedFault
from lab.machine.machine import Frozen, Machine
from lab.machine.setup import Setup
from lab.network.wires import Network

SETTLED_TIMEOUT_S = 120.0
# Addresses come after the end of the start-up, and a guest that is frozen while networkd has still
# something to do with them goes on with that after each thaw.
UNSETTLED = (
    "systemctl is-active --quiet systemd-networkd || exit 0; "
    "networkctl --no-legend --no-pager list | grep -E ' (pending|initialized|configuring) *$'; "
    "ip -6 -oneline address show tentative"
)


class Freezer:
    """Keeps one frozen guest for each setup, below ``directory``, for as long as a test session.

    A setup is frozen with no VF plugged, its start-up finished and its addresses there.
    ``make_image`` is asked once for each flavour.
    """

    def __init__(
        self, *, make_image: Callable[[Flavour], Image], directory: Path, logs: Path
    ) -> None:
        self._make_image = make_image
        self._images: dict[Flavour, Image] = {}
        self._directory = directory
        self._logs = logs
        self._frozen: dict[str, Frozen] = {}

    def image(self, flavour: Flavour) -> Image:
        """Return the image that guests of a flavour boot."""
        if flavour not in self._images:
            self._images[flavour] = self._make_image(flavour)
        return self._images[flavour]

    def frozen(self, setup: Setup) -> Frozen:
        """Return the frozen guest of a setup, booting it the first time.

        A boot during which QEMU ends is begun once more, for this reason alone; the logs of both
        stay.
        """
        key = repr(setup)
        if key not in self._frozen:
            number = str(len(self._frozen))
            try:
                self._frozen[key] = self._boot_and_freeze(setup, number)
            except QemuEndedFault as error:
                print(f"lab: {setup.name} is booted once more: {error}", file=sys.stderr)
                self._frozen[key] = self._boot_and_freeze(setup, f"{number}-again")
        return self._frozen[key]

    def _boot_and_freeze(self, setup: Setup, name: str) -> Frozen:
        with Network() as network, ExitStack() as stack:
            _serve(setup, network)
            machine = stack.enter_context(
                Machine(
                    image=self.image(setup.flavour),
                    network=network,
                    setup=setup,
                    logs=self._logs / f"frozen-{name}",
                )
            )
            machine.wait_ready()
            machine.run("udevadm settle")
            wait_until(
                "the network is configured",
                lambda: not machine.execute(UNSETTLED).stdout,
                timeout_s=SETTLED_TIMEOUT_S,
            )
            machine.collect_logs()
            return machine.freeze(self._directory / name)


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
        """Return a guest that is up, in the same state each time, without a VF; takes a second.

        If its flavour wants DHCP, the network serves it from now on, for all guests. What such a
        guest got when it was frozen it goes on with: this server learns of it at the renewal.
        """
        frozen = self._freezer.frozen(setup or Setup())
        _serve(frozen.setup, self.network)
        return self._stack.enter_context(
            Machine.thaw(frozen, network=self.network, logs=self._logs)
        )

    def boot(self, setup: Setup) -> Machine:
        """Return a guest whose start-up has just begun; see ``Machine.wait_ready``."""
        image = self._freezer.image(setup.flavour)
        _serve(setup, self.network)
        return self._stack.enter_context(
            Machine(image=image, network=self.network, setup=setup, logs=self._logs)
        )

    def destination(self, source: Machine) -> Machine:
        """Return a QEMU on host B that waits for the guest of ``source``."""
        return self._stack.enter_context(Machine.destination(source))


def _serve(setup: Setup, network: Network) -> None:
    if setup.flavour.wants_server and not network.serves_addresses:
        network.serve_addresses()
