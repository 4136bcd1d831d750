"""Runs the claims against the real kernel: each in a network namespace of its own.

Standard library and the agent only. Prints one JSON object: for each claim
None, or how it failed.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import traceback

from guestagent.guest.core.addressing import Address
from guestagent.guest.kernel.netlink import NetlinkKernel
from tests.contract.kernel import CLAIMS
from tests.contract.kernel_ground import MAC, OTHER_MAC, Claim

DAD_S = 60.0


class VethGround:
    """NICs are ends of veth pairs; the other end is the cable."""

    patience_s = 60.0

    def plug(self, name: str) -> int:
        _ip(f"link add {name} address {MAC} mtu 1500 type veth peer {_cable(name)}")
        _ip(f"link set {_cable(name)} address {OTHER_MAC} up")
        return socket.if_nametoindex(name)

    def unplug(self, ifindex: int) -> None:
        _ip(f"link delete {socket.if_indextoname(ifindex)}")

    def rename(self, ifindex: int, name: str) -> None:
        _ip(f"link set {socket.if_indextoname(ifindex)} name {name}")

    def set_carrier(self, ifindex: int, *, carrier: bool) -> None:
        cable = _cable(socket.if_indextoname(ifindex))
        _ip(f"link set {cable} {'up' if carrier else 'down'}")

    def refuse_address(self, ifindex: int, address: Address) -> None:
        name = socket.if_indextoname(ifindex)
        given = f"{address.address}/{address.prefix_length}"
        _ip(f"address add {given} dev {_cable(name)} nodad")
        _ip(f"address add {given} dev {name}")
        end = time.monotonic() + DAD_S
        while "dadfailed" not in _ip(f"address show dev {name}"):
            if time.monotonic() > end:
                raise TimeoutError("nobody refused the address")
            time.sleep(0.05)

    def add_rule(self, name: str) -> None:
        _ip(f"rule add not from 198.51.100.0/24 iif {name} lookup 77 priority 99")

    def hold_back(self, ifindex: int) -> None:
        name = socket.if_indextoname(ifindex)
        _run("tc", f"qdisc add dev {name} root netem delay 60s")
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as packets:
            packets.bind((name, 0))
            packets.send(bytes(64))

    def attach(self, ifindex: int) -> None:
        _run("tc", f"qdisc add dev {socket.if_indextoname(ifindex)} root pfifo limit 10")


def run(claim: Claim) -> str | None:
    """Return how a claim fails, or None."""
    _unshare_network()
    kernel = NetlinkKernel()
    try:
        claim(kernel, VethGround())
    except Exception:  # noqa: BLE001 - whatever it is, it is the result
        return traceback.format_exc()
    finally:
        kernel.close()
    return None


def _unshare_network() -> None:
    """Go into a fresh network namespace; os.unshare exists from Python 3.12 on."""
    unshare = getattr(os, "unshare")  # noqa: B009 - unknown to the version that is checked
    unshare(0x40000000)  # CLONE_NEWNET


def _cable(name: str) -> str:
    return f"{name}-cable"


def _ip(arguments: str) -> str:
    return _run("ip", arguments)


def _run(program: str, arguments: str) -> str:
    command = [program, *arguments.split()]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    print(json.dumps({name: run(claim) for name, claim in CLAIMS.items()}))
