"""rtnetlink's own ways of failing; what it does when it works, the contract tests say."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from guestagent.guest.kernel.netlink import NetlinkKernel
from guestagent.guest.kernel.protocol import KernelError
from guestagent.pyroute import NetlinkDumpInterrupted


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


def test_a_torn_dump_is_begun_again_and_one_that_is_always_torn_is_no_lack_of_rights() -> None:
    with NetlinkKernel() as kernel:
        torn = TornSocket(kernel._socket, torn=3)
        kernel._socket = torn
        assert "lo" in {link.name for link in kernel.links()}
        torn.torn = 1000
        with pytest.raises(KernelError) as caught:
            kernel.links()
    assert caught.value.code == errno.EAGAIN


def test_one_process_may_open_one_socket_after_the_other() -> None:
    for _ in range(3):
        with NetlinkKernel() as kernel:
            assert "lo" in {link.name for link in kernel.links()}
