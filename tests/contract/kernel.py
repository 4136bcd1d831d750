"""Contract of a Kernel: claims that hold for the fake and for the real one."""

from __future__ import annotations

from tests.contract import kernel_addressing, kernel_bonds, kernel_links
from tests.contract.kernel_ground import CLAIMS

__all__ = ["CLAIMS", "kernel_addressing", "kernel_bonds", "kernel_links"]
