"""``status --watch``: the status again at every change.

The agent answers when its status has changed, so nothing is polled while it runs. Without an
agent the system is observed once and the socket is tried once a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from guestagent.errors import GuestAgentError, PeerError
from guestagent.guest.api import client
from guestagent.guest.api.client import NotRunningError
from guestagent.guest.report.status import Status
from guestagent.json_fields import JsonError

REFRESH_S = 60.0
RETRY_S = 1.0


def ask_status(arguments: Mapping[str, object] | None = None) -> Status:
    """Return the running agent's status. Raises NotRunningError, GuestAgentError."""
    try:
        return Status.from_json(client.ask("status", arguments))
    except JsonError as error:
        raise GuestAgentError(
            f"the running agent speaks another version: {error}",
            hint="restart it: systemctl restart guestagent",
        ) from error


class Watch:
    """Shows the status at every change until it is interrupted."""

    def __init__(
        self,
        *,
        ask: Callable[[Mapping[str, object] | None], Status],
        own: Callable[[str], Status],
        show: Callable[[Status], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``own`` observes without the agent; its argument is the reason why there is none."""
        self._ask = ask
        self._own = own
        self._show = show
        self._sleep = sleep
        self._shown: int | None = None
        self._missed = False

    def run(self) -> None:
        """Show until Ctrl-C. Raises the errors of the first request."""
        try:
            while True:
                self.step()
        except KeyboardInterrupt:
            return

    def step(self) -> None:
        """Wait for the next change and show it."""
        known = self._shown
        wanted = None if known is None else {"after": known, "timeout_s": REFRESH_S}
        try:
            report = self._ask(wanted)
        except (NotRunningError, PeerError) as error:
            if not self._missed:
                self._show(self._own(str(error)))
            self._shown, self._missed = None, True
            self._sleep(RETRY_S)
            return
        self._missed, self._shown = False, report.revision
        if report.revision is None or report.revision != known or _counts_down(report):
            self._show(report)
        if report.revision is None:
            self._sleep(RETRY_S)  # an agent that cannot be waited for


def _counts_down(report: Status) -> bool:
    return any(pair.held_s is not None for pair in report.pairs)
