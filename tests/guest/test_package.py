"""The life of the package in a guest that never heard of it: installed, replaced, removed, purged.

Everything happens under traffic, in one guest, in the order in which an operator does it.
"""

from __future__ import annotations

import base64
import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.base.paths import PACKAGES
from lab.image.build import ensure_agent_package, ensure_image
from lab.image.debs import AGENT_NEEDS, newer_agent, repository
from lab.image.flavour import Suite
from lab.machine.machine import Machine
from lab.machine.setup import Setup
from lab.network.wires import Network
from lab.probe.probe import Probe
from tests.guest.seen import (
    assert_becomes,
    assert_nothing_lost,
    configuration,
    configure,
    look,
    wait_converged,
    wait_on_vf,
)

RATE_HZ = 100.0
"""Of each flow: what a guest has to send and to receive it cannot spend on dpkg."""
APT_S = 600
APT = "DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes"
PLAIN = (
    # pyroute2 is in the image for the host helper; the agent works without it.
    f"dpkg --purge python3-pyroute2 {' '.join(AGENT_NEEDS)} && "
    "echo 'deb [trusted=yes] file:/srv/debian ./' >/etc/apt/sources.list && "
    "mkdir /srv/debian && tar --extract --file=/run/repository.tar --directory=/srv/debian && "
    f"{APT} update"
)
# But for what apt, dpkg and the tools of Debian's Python keep for themselves, and the logs.
OTHERS = ("/var/cache", "/var/lib/apt", "/var/log", "/usr/share/python3/debpython/__pycache__")
FILES = (
    rf"find / -xdev \( -path {' -o -path '.join(OTHERS)} \) -prune -o "
    r"-path '/var/lib/dpkg/*-old' -o -print"
)
UNITS = ("guestagent.service", "guestagent-early.service", "guestagent-hide.service")


@pytest.fixture
def plain(network: Network, logs: Path) -> Iterator[Machine]:
    """A guest without the agent and what it needs, that can get both; its NIC has routes."""
    image = ensure_image(with_agent=False)
    with Machine(image=image, network=network, setup=Setup(), logs=logs) as guest:
        guest.wait_ready()
        put(guest, "repository.tar", tarred(repository(Suite.TRIXIE)))
        guest.run(PLAIN, timeout_s=APT_S)
        put(guest, "guestagent_1_all.deb", ensure_agent_package().read_bytes())
        put(guest, "guestagent_999_all.deb", newer_agent())
        configure(guest, "Name=en*1s0")
        yield guest


def put(guest: Machine, name: str, content: bytes) -> None:
    """Write a file into /run of the guest."""
    guest.run(f"base64 --decode >/run/{name}", stdin=base64.b64encode(content).decode())


def tarred(directory: Path) -> bytes:
    """Return the content of a directory as an archive."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.add(directory, arcname=".")
    return stream.getvalue()


def test_debian_policy_has_nothing_to_say_of_the_packages() -> None:
    ensure_agent_package()
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on=warning", *PACKAGES.glob("*.deb")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


def test_the_package_comes_is_replaced_and_goes_and_no_packet_is_lost(
    plain: Machine, network: Network
) -> None:
    before, files = configuration(plain), set(plain.run(FILES).splitlines())
    with Probe(network, rate_hz=RATE_HZ) as probe:
        probe.start(plain)
        # As an operator would, with what it needs fetched from the distribution.
        plain.run(f"{APT} install /run/guestagent_1_all.deb", timeout_s=APT_S)
        plain.run(f"systemctl is-enabled {' '.join(UNITS)} && systemctl is-active {UNITS[0]}")
        plain.plug_vf()
        bond = wait_on_vf(plain)
        wait_converged(plain)
        for name in ("guestagent_999_all.deb", "guestagent_1_all.deb"):
            plain.run(f"dpkg --install /run/{name}", timeout_s=APT_S)
            wait_converged(plain)
        after = wait_on_vf(plain)
        assert "taken apart" in plain.run("dpkg --remove guestagent", timeout_s=APT_S)
        result = probe.stop(plain)
    print({flow.name: (flow.sent, len(flow.lost)) for flow in result.flows}, result.tcp)
    print(f"replies that the guest's kernel could not send: {result.unsent_replies}")
    assert_nothing_lost(result)
    assert [port.kind for port in result.active_ports].count("vf") == 1
    assert (after.ifindex, after.options) == (bond.ifindex, bond.options)

    seen = look(plain)
    vf = next(nic.name for nic in seen.nics if not nic.virtio)

    def left() -> str:
        lines = configuration(plain).splitlines()
        return "\n".join(line for line in lines if vf not in line)

    assert_becomes(left, before)
    assert not seen.bonds
    plain.run('test -z "$(ls /run/systemd/network)" && ! test -e /run/guestagent')

    plain.run(f"{APT} purge --autoremove guestagent", timeout_s=APT_S)
    assert set(plain.run(FILES).splitlines()) - files == set()
