"""rtnetlink's own ways of failing; what it does when it works, the contract tests say."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from guestagent.guest.kernel.netlink import NetlinkKernel
from guestagent.guest.kernel.protocol import KernelError
from guestagent.guest.kernel.pyroute import NetlinkDumpInterrupted


class TornSocket:
    """The real socket, whose first dumps are torn by a change."""

    def __init__(self, real: Any, torn: int) -> None:
        self._real = real
        self.torn = torn

    def nlm_request_batch(self, messages: list[Any]) -> Any:
        answers = tuple(self._real.nlm_request_batch(messages))
        if self.torn > 0:
            self.torn -= 1
            raise NetlinkDumpInterrupted
        return answers

    def close(self) -> None:
        self._real.close()


def links_after(torn: int) -> set[str]:
    """Return the names of the links; in a thread of its own, to which the socket belongs."""

    def work() -> set[str]:
        with NetlinkKernel() as kernel:
            kernel._socket = TornSocket(kernel._socket, torn)
            return {link.name for link in kernel.links()}

    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(work).result()


def test_a_dump_that_a_change_has_torn_is_begun_again() -> None:
    assert "lo" in links_after(torn=3)


def test_a_dump_that_is_always_torn_is_an_error_and_not_a_lack_of_rights() -> None:
    with pytest.raises(KernelError) as caught:
        links_after(torn=1000)
    assert caught.value.code == errno.EAGAIN
