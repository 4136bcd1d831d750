"""The fake kernel keeps the contract that the real one keeps (tests/guest)."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from guestagent.guest.core.addressing import Address, Rule
from tests.contract.kernel import CLAIMS
from tests.contract.kernel_ground import MAC, TENTATIVE_OR_REFUSED
from tests.fakes.kernel import FakeKernel


class FakeGround:
    """The fake kernel's own handles."""

    patience_s = 0.0

    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel

    def plug(self, name: str) -> int:
        return self._kernel.plug(name, MAC)

    def unplug(self, ifindex: int) -> None:
        self._kernel.unplug(ifindex)

    def rename(self, ifindex: int, name: str) -> None:
        self._kernel.rename(ifindex, name)

    def set_carrier(self, ifindex: int, *, carrier: bool) -> None:
        self._kernel.set_carrier(ifindex, carrier=carrier)

    def refuse_address(self, ifindex: int, address: Address) -> None:
        self._kernel.owned[ifindex] = [replace(address, flags=TENTATIVE_OR_REFUSED)]

    def add_rule(self, name: str) -> None:
        self._kernel.ruled.append(Rule(family=socket.AF_INET, iif=name, rest="any"))

    def hold_back(self, ifindex: int) -> None:
        self._kernel.tx_backlogs[ifindex] = 1

    def attach(self, ifindex: int) -> None:
        self._kernel.unmovable_parts[ifindex] = ("has the queueing discipline pfifo",)


@pytest.mark.parametrize("name", CLAIMS)
def test_the_fake_kernel_keeps_to(name: str) -> None:
    kernel = FakeKernel()
    CLAIMS[name](kernel, FakeGround(kernel))
