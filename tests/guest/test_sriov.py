"""VFs of a real PF driver (igb), in a guest that is a host: leases, programming, vfio, L2 path.

The contract of VF pools is checked with each version of pyroute2 that the helper supports: that of
Debian 12, in a guest of its own since Python 3.13 does not load it, that of Debian 13, and the
newest, which the tests' own Python has. All other tests share one guest of Debian 13, which cannot
be frozen; each test leaves it without a lease.
"""

from __future__ import annotations

import base64
import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.base.paths import LOGS, PACKAGES, ROOT
from lab.image import pyroute
from lab.image.build import ensure_agent_package, ensure_image
from lab.image.flavour import Flavour, Suite
from lab.machine.machine import Machine
from lab.machine.monitor import Json
from lab.machine.setup import NOWHERE, Setup
from lab.network.wires import Network
from tests.contract.vf_pool import CLAIMS

MAC = "52:54:00:aa:00:01"
TREE = "/run/contract"
STATE = "/run/leases"
PATH = f"{TREE}:/usr/share/guestagent-host"
PYTHON = f"cd {TREE} && PYTHONPATH={PATH} python3 -B"
DEBIAN_12, DEBIAN_13, NEWEST = "0.7.2", "0.7.7", "newest"
VERSIONS = (DEBIAN_12, DEBIAN_13, NEWEST)
SHOW_VERSION = (
    "import importlib.metadata, pyroute2; print(importlib.metadata.version('pyroute2'), "
    "pyroute2.__path__[0])"
)
IN_GUEST = (
    "contract/vf_pool.py",
    "contract/vf_pool_in_guest.py",
    "fakes/faults.py",
    "fakes/pcitree.py",
    "fakes/qmp.py",
    "fakes/serving.py",
    "guest/killed_in_guest.py",
    "vm/mortal.py",
)
PREPARE = """
until cd /sys/bus/pci/devices/*/net/../ 2>/dev/null && ls net/* >/dev/null 2>&1
do udevadm settle; done
name=$(ls net)
ip link property add dev $name altname physnet1
ip link set $name up
until [ "$(cat net/$name/carrier)" = 1 ]; do :; done
echo 0 >sriov_drivers_autoprobe
echo 2 >sriov_numvfs
modprobe vfio-pci
echo $name
"""
DESCRIPTION = """
[source]
qmp = "/none"
[[pair]]
mac = "52:54:00:aa:00:01"
standby = "net0"
vf = { driver = "vfio-pci", id = "vf0", bus = "rp0" }
[pair.sriov]
pf = "physnet1"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The guest as a host; ``pf`` is the name of its PF."""

    guest: Machine
    pf: str

    def helper(self, words: str) -> Json:
        """Run a command of the installed helper and return what it prints."""
        return self.guest.run_json(f"guestagent-host vf {words} --state-dir {STATE} --json")

    def refusal(self, words: str) -> str:
        """Run one that must fail and return what it says."""
        done = self.guest.execute(f"guestagent-host vf {words} --state-dir {STATE}")
        assert done.code == 1, done
        return done.stderr

    def describe(self, more: str = "") -> str:
        """Write the description of a VM and return its path."""
        self.guest.write_file("/run/web1.toml", DESCRIPTION + more)
        return "/run/web1.toml"

    def vfs(self) -> list[Json]:
        """Return the VFs as the helper lists them."""
        (pf,) = self.helper("list")["pfs"]
        assert (pf["name"], pf["driver"]) == (self.pf, "igb")
        found: list[Json] = pf["vfs"]
        return found

    def shown(self, index: int) -> Json:
        """Return a VF as iproute2 shows it."""
        (link,) = self.guest.ip("link", "show", "dev", self.pf)
        return link["vfinfo_list"][index]

    def driver(self, vf: str) -> str:
        """Return the driver of a VF."""
        link = self.guest.run(f"readlink /sys/bus/pci/devices/{vf}/driver || :")
        return link.strip().rpartition("/")[2]

    def own_filter(self) -> str:
        """Return the MACs that the PF's own filter holds."""
        return self.guest.run(f"bridge fdb show dev {self.pf}")


@contextmanager
def host_of(suite: Suite) -> Iterator[Host]:
    """A guest with the helper's package and two VFs that nothing drives."""
    ensure_agent_package()
    (package,) = PACKAGES.glob("guestagent-host_*.deb")
    flavour = Flavour(suite=suite)
    setup = Setup(name=f"sriov-{suite}", pairs=(), pfs=(NOWHERE,), flavour=flavour)
    with (
        Network() as network,
        Machine(
            image=ensure_image(flavour),
            network=network,
            setup=setup,
            logs=LOGS / "guest" / "sriov",
        ) as guest,
    ):
        guest.wait_ready()
        guest.run(
            "base64 -d >/run/host.deb && dpkg --install /run/host.deb",
            stdin=base64.b64encode(package.read_bytes()).decode(),
        )
        for name in IN_GUEST:
            guest.write_file(f"{TREE}/tests/{name}", (ROOT / "tests" / name).read_text())
        yield Host(guest=guest, pf=guest.run(PREPARE, timeout_s=300).strip())


@pytest.fixture(scope="module")
def machine() -> Iterator[Host]:
    """The host of Debian 13."""
    with host_of(Suite.TRIXIE) as found:
        yield found


@pytest.fixture
def host(machine: Host) -> Iterator[Host]:
    """The host; each test gives back what it has claimed."""
    yield machine
    left = machine.guest.run(f"ls {STATE}/vfs/*.json 2>/dev/null || :")
    if left:
        machine.helper(f"release {machine.describe()}")
    assert left == ""


def put_modules(guest: Machine, package: Path, target: str) -> None:
    """Put a package's modules and the record of its version into the guest."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path in [*package.rglob("*.py"), *package.parent.glob("pyroute2-*/METADATA")]:
            archive.add(path, path.relative_to(package.parent))
    content = base64.b64encode(buffer.getvalue()).decode()
    guest.run(f"mkdir -p {target} && base64 -d | tar -xzC {target}", stdin=content)


@pytest.fixture(scope="module")
def results(machine: Host) -> Json:
    """Result of each claim on VF pools, with each version of pyroute2."""
    put_modules(machine.guest, pyroute.installed(), f"{TREE}/{NEWEST}")
    found = {version: checked(machine, version) for version in (DEBIAN_13, NEWEST)}
    with host_of(Suite.BOOKWORM) as debian_12:
        found[DEBIAN_12] = checked(debian_12, DEBIAN_12)
    return found


def checked(host: Host, version: str) -> Json:
    """Check the claims with a version; without a directory of its name, that is the guest's."""
    python = f"cd {TREE} && PYTHONPATH={TREE}/{version}:{PATH} python3 -B"
    shown = host.guest.run(f'{python} -W ignore -c "{SHOW_VERSION}"', timeout_s=300)
    command = f"{python} -m tests.contract.vf_pool_in_guest {host.pf}"
    return {"shown": shown, "claims": host.guest.run_json(command, timeout_s=900)}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_version_of_pyroute2_is_the_one_that_is_meant(version: str, results: Json) -> None:
    number, path = results[version]["shown"].split()
    assert path.startswith(TREE) == (version == NEWEST)
    assert number.startswith("0.9." if version == NEWEST else version)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", CLAIMS)
def test_the_real_host_keeps_to(name: str, version: str, results: Json) -> None:
    failure = results[version]["claims"][name]
    assert failure is None, failure


def test_a_vf_is_programmed_bound_and_given_back(host: Host) -> None:
    before = host.shown(0)
    path = host.describe(
        "vlan = 7\nqos = 3\ntrust = true\nspoof_check = false\nmax_rate_mbit_per_s = 100\n"
    )
    (claimed,) = host.helper(f"claim {path}")["vfs"]
    vf = claimed["lease"]["vf"]
    shown = host.shown(0)
    assert claimed["warnings"] == []
    assert (shown["address"], shown["trust"], shown["spoofchk"]) == (MAC, True, False)
    assert shown["vlan_list"] == [{"vlan": 7, "qos": 3}]
    assert shown["rate"]["max_tx"] == 100
    assert host.driver(vf) == "vfio-pci"
    host.helper(f"release {path}")
    assert host.shown(0) == before
    assert host.driver(vf) == ""


def test_what_igb_refuses_is_a_warning_or_an_error_and_leaves_no_mac(host: Host) -> None:
    before = host.shown(0)
    path = host.describe('link_state = "enable"\n')
    (claimed,) = host.helper(f"claim {path}")["vfs"]
    (warning,) = claimed["warnings"]
    assert "could not write link state enable" in warning
    assert "Operation not supported" in warning
    host.helper(f"release {path}")
    path = host.describe('link_state = "enable"\non_refusal = "fail"\n')
    assert "could not write link state enable" in host.refusal(f"claim {path}")
    path = host.describe('vlan = 7\nvlan_protocol = "802.1ad"\n')
    assert "Protocol not supported" in host.refusal(f"claim {path}")
    assert host.helper(f"release {path}")["vfs"] == []
    assert host.shown(0) == before


def test_a_vf_goes_back_to_the_driver_that_it_had(host: Host) -> None:
    vf = host.vfs()[0]["address"]
    device = f"/sys/bus/pci/devices/{vf}"
    host.guest.run(
        f"modprobe igbvf; echo igbvf >{device}/driver_override;"
        f" echo {vf} >/sys/bus/pci/drivers_probe; echo >{device}/driver_override; udevadm settle"
    )
    name = host.guest.run(f"ls {device}/net").strip()
    path = host.describe()
    (claimed,) = host.helper(f"claim {path}")["vfs"]
    assert (claimed["lease"]["vf"], claimed["lease"]["former_driver"]) == (vf, "igbvf")
    assert host.driver(vf) == "vfio-pci"
    host.helper(f"release {path}")
    assert host.driver(vf) == "igbvf"
    host.guest.run(f"udevadm settle; ip link set {name} up")
    assert host.vfs()[0]["host_use"] == f"interface {name} is up"
    (claimed,) = host.helper(f"claim {path}")["vfs"]
    assert claimed["lease"]["vf"] != vf
    host.helper(f"release {path}")
    host.guest.run(f"ip link set {name} down; echo {vf} >{device}/driver/unbind")


def test_a_vf_that_a_process_has_is_not_taken_from_it(host: Host) -> None:
    before = host.shown(0)
    path = host.describe()
    (claimed,) = host.helper(f"claim {path}")["vfs"]
    vf = claimed["lease"]["vf"]
    group = next(one["iommu_group"] for one in host.vfs() if one["address"] == vf)
    host.guest.run(f"systemd-run --quiet --unit=user sh -c 'exec sleep 600 </dev/vfio/{group}'")
    host.guest.run(
        f"until find /proc/[0-9]*/fd -lname /dev/vfio/{group} 2>/dev/null | grep -q .; do :; done"
    )
    assert next(one["process"]["name"] for one in host.vfs() if one["address"] == vf) == "sleep"
    assert f"{vf}: process" in host.refusal(f"release {path}")
    assert host.shown(0)["address"] == MAC
    host.guest.run("systemctl stop user")
    host.helper(f"release {path}")
    assert host.shown(0) == before


def test_a_macvtap_on_the_pf_is_in_its_filter_and_goes_with_the_lease(host: Host) -> None:
    path = host.describe('standby_link = "mv0"\n')
    (claimed,) = host.helper(f"claim {path} --reserve --macvtap mv0")["vfs"]
    assert host.guest.run(f"ls {claimed['macvtap']['device']}")
    assert MAC in host.own_filter()
    host.helper(f"release {path}")
    assert MAC not in host.own_filter()
    assert host.guest.execute("ip link show mv0").code != 0


def test_a_bridge_on_the_pf_lets_the_standby_s_mac_in_while_the_vf_is_away(host: Host) -> None:
    host.guest.run(
        f"ip link add br0 type bridge vlan_filtering 1; ip link set br0 up;"
        # A port without a carrier takes no entry, and a tap has one only while it is open.
        f" ip link set {host.pf} master br0; ip link add tap0 type veth peer cable;"
        f" ip link set cable up; ip link set tap0 master br0 up;"
        f" bridge vlan add dev {host.pf} vid 5-7;"
        " until bridge link show dev tap0 | grep -q forwarding; do :; done"
    )
    try:
        path = host.describe('vlan = 9\nstandby_link = "tap0"\n')
        assert "its bridge does not let VLAN 9 through" in host.refusal(f"claim {path}")
        path = host.describe('vlan = 6\nstandby_link = "tap0"\n')
        host.helper(f"claim {path}")
        steps = host.guest.run(
            f"cd {TREE} && PYTHONPATH=/usr/share/guestagent-host python3 -B -", stdin=STEPS
        )
        assert steps.split() == ["False", "True", "False"]
        host.helper(f"release {path}")
    finally:
        host.guest.run(f"ip link set {host.pf} nomaster; ip link del br0; ip link del tap0")


def test_a_helper_killed_at_any_point_of_its_vfs_is_recovered(host: Host) -> None:
    """Source and destination are this host; see ``killed_in_guest.py``."""
    host.guest.run(
        f"ip link add br0 type bridge; ip link set br0 up; ip link set {host.pf} master br0;"
        " for tap in tap0 tap1; do ip link add $tap type veth peer cable-$tap;"
        " ip link set cable-$tap up; ip link set $tap master br0 up; done;"
        " for tap in tap0 tap1; do"
        " until bridge link show dev $tap | grep -q forwarding; do :; done; done"
    )
    try:
        command = f"{PYTHON} -m tests.guest.killed_in_guest {host.pf}"
        points: dict[str, list[str]] = host.guest.run_json(command, timeout_s=900)
    finally:
        host.guest.run(
            f"ip link set {host.pf} nomaster; ip link del br0; ip link del tap0; ip link del tap1"
        )
    print(f"{len(points)} points: {', '.join(points)}")
    assert {point: wrong for point, wrong in points.items() if wrong} == {}
    assert len(points) > 25


STEPS = f"""
import asyncio, subprocess
from pathlib import Path
from guestagent.host.sriov.pool import host_pool

def known(pf):
    shown = subprocess.run(["bridge", "fdb", "show"], capture_output=True, text=True).stdout
    own = f"{MAC} dev {{pf}} self permanent" in shown
    tap = any(line.startswith("{MAC} dev tap0 master br0") for line in shown.splitlines())
    assert own == tap, shown
    return own

async def main():
    pool = host_pool(Path("{STATE}"))
    (lease,) = await pool.leases("web1")
    for step in (pool.settle, pool.withdraw, pool.settle):
        lease = await step(lease)
        assert lease.warnings == (), lease
        print(known(lease.pf_name))
    await pool.close()

asyncio.run(main())
"""
