"""A guest of one method, and what can be done to its VF."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

from guestagent.errors import PeerError
from lab.base.process import run
from lab.bench.linkevents import MONITOR, appear_ms
from lab.bench.methods import Method
from lab.image.build import Image, ensure_image
from lab.image.debs import newer_agent
from lab.machine.machine import Frozen, Machine
from lab.migration import host_helper
from lab.network.wires import Network

ACTIVE_TIMEOUT_S = 60.0

_FIND_VF = (
    "for n in /sys/class/net/*; do d=$(readlink $n/device/driver); "
    '[ "${d##*/}" = e1000e ] && VF=${n##*/}; done; '
)
_BOND_USES_VF = (
    "while :; do for a in /sys/class/net/*/bonding/active_slave; do read -r p <$a; "
    'd=$(readlink /sys/class/net/$p/device/driver); [ "${d##*/}" = e1000e ] && exit 0; '
    "done; sleep 0.1; done 2>/dev/null"
)
_FAILOVER_USES_VF = (
    f"while :; do VF=; {_FIND_VF} "
    '[ -n "$VF" ] && [ -e /sys/class/net/$VF/master ] && '
    '[ "$(cat /sys/class/net/$VF/carrier)" = 1 ] && exit 0; sleep 0.1; done 2>/dev/null'
)


def prepare(method: Method, *, network: Network, directory: Path, logs: Path) -> Frozen:
    """Boot a guest, set it up as the method wants it, and freeze it."""
    image = image_of(method)
    if method.with_agent:
        newer_agent()  # before the sources can change
    with Machine(image=image, network=network, setup=method.setup, logs=logs) as machine:
        machine.wait_ready()
        machine.run(method.commands or "true")
        machine.run("udevadm settle")
        machine.collect_logs()
        return machine.freeze(directory)


def image_of(method: Method) -> Image:
    """Return the image that a method's guests boot."""
    return ensure_image(with_agent=method.with_agent, packages=method.packages)


class Contestant:
    """A running guest; ``machine`` is the QEMU it is on now."""

    def __init__(self, method: Method, machine: Machine) -> None:
        self.method = method
        self.machine = machine

    def begin(self) -> None:
        """Plug the first VF and wait until the guest uses it."""
        self._plug()
        self.wait_active()

    def plug(self) -> float:
        """Plug the VF again, as the method would; return when it was plugged."""
        return self._helper("attach") if self.method.planned else self._plug()

    def _plug(self) -> float:
        at_s = time.monotonic()
        self.machine.plug_vf()
        if self.method.at_plug:
            self.machine.run(
                f'VF=; until {_FIND_VF} [ -n "$VF" ]; do sleep 0.1; done; '
                f"udevadm settle; {_FIND_VF}\n{self.method.at_plug}"
            )
        return at_s

    def _helper(self, command: str) -> float:
        """Have the host helper detach or attach the VF; return when it began with that."""
        description = self.machine.directory / "vm.toml"
        host_helper.write_description(description, self.machine, self.machine)
        state = self.machine.directory / "state"
        report = json.loads(
            run(host_helper.PROGRAM, command, "--json", "--state-dir", state, description)
        )
        if report["warnings"]:
            raise PeerError(f"guestagent-host {command}: {'; '.join(report['warnings'])}")
        (begin_s,) = (
            float(phase["start_s"]) for phase in report["phases"] if phase["name"] == command
        )
        return begin_s

    def unplug(self) -> None:
        """Take the VF away, as the method would."""
        if self.method.planned:
            self._helper("detach")
        else:
            self.machine.unplug_vf()

    def wait_active(self) -> None:
        """Wait until the guest uses its VF.

        :raise PeerError: it does not within ``ACTIVE_TIMEOUT_S``.
        """
        condition = _FAILOVER_USES_VF if self.method.failover else _BOND_USES_VF
        self.machine.run(f"timeout {ACTIVE_TIMEOUT_S} bash -c '{condition}'",
                         timeout_s=ACTIVE_TIMEOUT_S + 10)  # fmt: skip

    def appear_ms(self, log: Path) -> float | None:
        """Plug the VF of a guest that has none, and return how long it took to be used.

        ``log`` gets what the kernel said meanwhile.
        """
        self.machine.run(
            "systemd-run --quiet --unit=links --service-type=exec "
            f"--property=StandardOutput=file:/run/links {MONITOR}"
        )
        self.plug()
        self.wait_active()
        text = self.machine.run(
            f"systemctl stop links; {_FIND_VF} cat /sys/class/net/$VF/ifindex /run/links"
        )
        log.write_text(text)
        ifindex, _, events = text.partition("\n")
        return appear_ms(events, ifindex=int(ifindex))

    def bring_newer_agent(self) -> None:
        """Put a package of the agent with a higher version into the guest."""
        package = base64.b64encode(newer_agent()).decode()
        self.machine.run("base64 --decode >/run/newer.deb", stdin=package)
