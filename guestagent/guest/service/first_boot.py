"""First boot of an instance: VFs are hidden from cloud-init.

cloud-init looks for NICs by MAC address and fails on two that share one, in its local and in its
network stage; the instance then has no users and no keys (cloudinit/net/__init__.py,
get_interfaces_by_mac (22.4, 25.1)). A bond does not help, because it looks at the ports'
permanent addresses. The VFs are therefore moved to another network namespace before it starts, and
return when all of its stages have ended, successful or not, or after ``LIMIT_S``.

A VF that is plugged meanwhile is hidden too, but only until the end of the network stage: after
that cloud-init does not look for NICs, and the agent can bond the VF.

The namespace belongs to this process alone. Whenever and however it ends, the VFs return.
"""

from __future__ import annotations

import logging
import select
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from guestagent.clock import Clock, Deadline
from guestagent.errors import GuestAgentError
from guestagent.files import read_file
from guestagent.guest.core.link import Link
from guestagent.guest.core.pairing import pair_up
from guestagent.guest.core.policy import Policy
from guestagent.guest.core.snapshot import Snapshot
from guestagent.guest.service import sd_notify
from guestagent.json_fields import JsonError, Obj

if TYPE_CHECKING:
    from guestagent.guest.kernel.namespace import HidingKernel

LIMIT_S = 300.0
"""A VF is never hidden for longer. The network stage may wait minutes for a metadata service."""

SETTLE_TIMEOUT_S = 2
LOOK_INTERVAL_MS = 1000
_log = logging.getLogger("guestagent.hide")


class CloudInit:
    """Progress of cloud-init in this boot, from its files.

    Their format is the same since 0.7 (cloudinit/cmd/main.py, status_wrapper (22.4,
    25.1)): ``status.json`` has the time at which each stage ended, ``result.json`` is written at
    the end of the last one, also when something failed. An invalid file
    proves nothing: the limit stands.
    """

    def __init__(self, run: Path = Path("/run/cloud-init")) -> None:
        self._run = run

    @property
    def finished(self) -> bool:
        """Whether all stages have ended."""
        return (self._run / "result.json").exists()

    @property
    def network_stage_is_over(self) -> bool:
        """Whether cloud-init does not look for NICs any more."""
        try:
            status = Obj.parse(read_file(self._run / "status.json"))
            return status.object("v1").object("init").has("finished")
        except (OSError, JsonError):
            return False


class Hider:
    """Hides the VFs of pairs, again and again, until cloud-init has finished."""

    def __init__(
        self, *, kernel: HidingKernel, cloud_init: CloudInit, policy: Policy, clock: Clock
    ) -> None:
        self._kernel = kernel
        self._cloud_init = cloud_init
        self._policy = policy
        self._limit = Deadline.after(LIMIT_S, clock)
        self._hidden: list[str] = []
        self._refused: set[int] = set()

    def look(self) -> bool:
        """Hide the visible VFs; False once cloud-init has finished or the time is up."""
        if self._cloud_init.finished:
            _log.info("cloud-init has finished: %s", self._given_back())
            return False
        if self._limit.expired:
            _log.warning(
                "cloud-init has not finished after %.0f s: %s", LIMIT_S, self._given_back()
            )
            return False
        if not self._cloud_init.network_stage_is_over:
            for vf in visible_vfs(self._kernel.links(), self._policy):
                self._hide(vf)
        return True

    def _hide(self, vf: Link) -> None:
        if vf.ifindex in self._refused:
            return
        try:
            self._kernel.hide(vf.ifindex)
        except GuestAgentError as error:
            # Unplugged at this moment, or its driver cannot: cloud-init will see it.
            _log.warning("%s", error, extra={"LINK": vf.name})
            self._refused.add(vf.ifindex)
        else:
            self._hidden.append(vf.name)
            _log.info(
                "hidden from cloud-init: %s", vf.name, extra={"LINK": vf.name, "PAIR": vf.address}
            )

    def _given_back(self) -> str:
        return f"giving back {', '.join(self._hidden)}" if self._hidden else "nothing was hidden"


def visible_vfs(links: tuple[Link, ...], policy: Policy) -> tuple[Link, ...]:
    """Return the VFs of pairs, without NICs that are left alone."""
    pairs = pair_up(Snapshot(links=links), policy).pairs
    return tuple(pair.vf for pair in pairs if pair.vf is not None)


def hide_until_done(hider: Hider, wait: Callable[[], None]) -> None:
    """Hide, notify systemd so that cloud-init begins, and wait until it has finished."""
    waiting = hider.look()
    sd_notify.notify("READY=1")
    while waiting:
        wait()
        waiting = hider.look()


def run(policy: Policy) -> None:
    """``guestagent hide``. Raises GuestAgentError."""
    # A NIC that is plugged while udev settles is in the first list, or causes an event.
    with subprocess.Popen(["udevadm", "settle", f"--timeout={SETTLE_TIMEOUT_S}"]) as settle:
        import time

        from guestagent.guest.kernel.events import LinkEvents
        from guestagent.guest.kernel.namespace import HidingKernel

        kernel, events = HidingKernel(), LinkEvents()
        settle.wait()
    poll = select.poll()
    poll.register(events.fileno(), select.POLLIN)

    def wait() -> None:
        poll.poll(LOOK_INTERVAL_MS)
        events.drain()

    try:
        hider = Hider(kernel=kernel, cloud_init=CloudInit(), policy=policy, clock=time.monotonic)
        hide_until_done(hider, wait)
    finally:
        events.close()
        kernel.close()
