"""The commands `guestagent-host vf`: what they claim, what they print, what they refuse."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from guestagent.host.cli import vf as vf_commands
from guestagent.host.cli.main import main
from guestagent.host.config.description import load
from guestagent.host.migration.state import Phase
from guestagent.host.model import End, Vm
from guestagent.host.report import vf_result
from guestagent.host.sriov.base import NoVfError, VfRefusedError
from guestagent.host.sriov.core.model import NO_MAC, LeaseOwner, Process, Want
from guestagent.host.store.journal import Began, Journal
from tests.fakes.sriov import FakeVfHost, FakeVfPool
from tests.unit.host.migration.test_transitions import state

PAIR = """
[[pair]]
mac = "52:54:00:aa:00:0{0}"
standby = "net{0}"
vf = {{ driver = "vfio-pci", id = "vf{0}", bus = "rp{0}" }}
[pair.sriov]
pf = "physnet1"
vlan = 7
"""


def described(directory: Path, *, pairs: int = 1, more: str = "") -> Path:
    path = directory / "web1.toml"
    text = "".join(PAIR.format(number) for number in range(pairs))
    path.write_text('[source]\nqmp = "/a.sock"\n' + text + more)
    return path


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> FakeVfHost:
    """A host that the commands find in place of this one."""
    shared = FakeVfHost()

    class Pool(FakeVfPool):
        async def close(self) -> None:
            """Close nothing."""

    monkeypatch.setattr(vf_commands, "host_pool", lambda _state_dir, **_how: Pool(shared))
    return shared


def vf(directory: Path, *words: str | Path) -> int:
    action, *rest = map(str, words)
    return main(["vf", action, "--state-dir", str(directory / "state"), *rest])


def claim(
    host: FakeVfHost, vm: Vm, *, reserve: bool = False, macvtap: str | None = None
) -> tuple[vf_result.Claimed, ...]:
    return asyncio.run(
        vf_commands.claim_all(
            FakeVfPool(host), vm, vm.pairs, End.SOURCE, reserve=reserve, macvtap=macvtap
        )
    )


def test_a_claimed_vf_is_ready_for_qemu(
    tmp_path: Path, host: FakeVfHost, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vf(tmp_path, "claim", described(tmp_path), "--json") == 0
    (claimed,) = json.loads(capsys.readouterr().out)["vfs"]
    address = claimed["lease"]["vf"]
    assert claimed["mac"] == host.states[address].mac == "52:54:00:aa:00:00"
    assert host.states[address].vlan == 7
    assert address in host.plugged_ready


@pytest.mark.parametrize("reserve", [True, False])
def test_a_claim_may_be_repeated(tmp_path: Path, host: FakeVfHost, reserve: bool) -> None:
    vm = load(described(tmp_path, pairs=2))
    first = claim(host, vm, reserve=reserve)
    again = claim(host, vm, reserve=reserve)
    assert [one.lease.vf for one in again] == [one.lease.vf for one in first]
    assert {one.lease.vf for one in first} == set(host.states)


def test_a_reserved_vf_is_not_touched(tmp_path: Path, host: FakeVfHost) -> None:
    (claimed,) = claim(host, load(described(tmp_path)), reserve=True)
    assert claimed.lease.settings is None
    assert host.states[claimed.lease.vf].mac == NO_MAC


def test_all_or_nothing_is_claimed(tmp_path: Path, host: FakeVfHost) -> None:
    with pytest.raises(NoVfError):
        claim(host, load(described(tmp_path, pairs=3)))
    assert host.leases == {}
    host.refuses.add("vlan")
    with pytest.raises(VfRefusedError):
        claim(host, load(described(tmp_path)))
    assert host.leases == {}


def test_a_macvtap_is_for_one_pair(
    tmp_path: Path, host: FakeVfHost, capsys: pytest.CaptureFixture[str]
) -> None:
    path = described(tmp_path, pairs=2)
    assert vf(tmp_path, "claim", path, "--macvtap", "mv0") == 2
    assert "--mac" in capsys.readouterr().err
    assert vf(tmp_path, "claim", path, "--macvtap", "mv0", "--mac", "52:54:00:AA:00:01") == 0
    assert "standby: mv0, /dev/tap7" in capsys.readouterr().out
    assert [lease.owner.operation for lease in host.leases.values()] == [
        "vf claim 52:54:00:aa:00:01"
    ]


def test_a_vm_without_such_a_pair_is_told_so(
    tmp_path: Path, host: FakeVfHost, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "web1.toml"
    path.write_text(described(tmp_path).read_text().partition("[pair.sriov]")[0])
    assert vf(tmp_path, "claim", path) == 2
    assert "add [pair.sriov]" in capsys.readouterr().err
    assert vf(tmp_path, "claim", described(tmp_path), "--mac", "52:54:00:00:00:00") == 2
    assert "these have: 52:54:00:aa:00:00" in capsys.readouterr().err


def test_the_list_says_who_has_what(
    tmp_path: Path, host: FakeVfHost, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = host.states
    asyncio.run(FakeVfPool(host).claim(Want(vf=first), LeaseOwner(vm="web1", operation="one")))
    host.users[second] = Process(pid=7, name="qemu")
    assert vf(tmp_path, "list") == 0
    shown = capsys.readouterr().out
    assert "pf0 (physnet1)  0000:01:00.0  fake, up, MTU 1500, 2 of 2 VFs" in shown
    assert "held by lease of web1 (one)" in shown
    assert "held by process 7 (qemu)" in shown
    assert vf(tmp_path, "list", "--json") == 0
    (pf,) = json.loads(capsys.readouterr().out)["pfs"]
    assert [one["free"] for one in pf["vfs"]] == [False, False]
    assert pf["vfs"][0]["lease"]["owner"] == {"vm": "web1", "operation": "one"}
    assert pf["vfs"][1]["process"] == {"pid": 7, "name": "qemu"}


def test_who_may_not_see_everything_is_told_so(
    tmp_path: Path,
    host: FakeVfHost,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for user, said in ((0, ""), (1000, "not run as root")):
        monkeypatch.setattr("os.geteuid", lambda user=user: user)
        assert vf(tmp_path, "list") == 0
        assert said in capsys.readouterr().err


def test_the_vfs_of_a_vm_are_released(
    tmp_path: Path, host: FakeVfHost, capsys: pytest.CaptureFixture[str]
) -> None:
    path = described(tmp_path, pairs=2)
    vf(tmp_path, "claim", path)
    first, second = host.states
    assert vf(tmp_path, "release", path, "--vf", first) == 0
    assert list(host.leases) == [second]
    assert vf(tmp_path, "release", path, "--json") == 0
    assert host.leases == {}
    capsys.readouterr()
    assert vf(tmp_path, "release", path) == 0
    assert "nothing to release" in capsys.readouterr().out


def test_a_lease_whose_description_is_gone_can_be_released(
    tmp_path: Path, host: FakeVfHost, capsys: pytest.CaptureFixture[str]
) -> None:
    first = next(iter(host.states))
    asyncio.run(FakeVfPool(host).claim(Want(vf=first), LeaseOwner(vm="lost", operation="one")))
    assert vf(tmp_path, "release") == 2
    assert vf(tmp_path, "release", "--vf", first) == 0
    assert f"{first}: released by lost (one)" in capsys.readouterr().out


def in_use(tmp_path: Path, host: FakeVfHost) -> tuple[Path, str]:
    """Claim a VF that QEMU then has; return the description and the VF."""
    path = described(tmp_path)
    vf(tmp_path, "claim", path)
    (address,) = host.leases
    host.users[address] = Process(pid=7, name="qemu")
    return path, address


def test_a_vf_in_use_is_not_released(
    tmp_path: Path, host: FakeVfHost, capsys: pytest.CaptureFixture[str]
) -> None:
    path, address = in_use(tmp_path, host)
    assert vf(tmp_path, "release", path) == 1
    assert "process 7 (qemu) still has it" in capsys.readouterr().err
    assert list(host.leases) == [address]


def test_one_vf_in_use_does_not_keep_the_others(
    tmp_path: Path, host: FakeVfHost, capsys: pytest.CaptureFixture[str]
) -> None:
    path = described(tmp_path, pairs=2)
    vf(tmp_path, "claim", path)
    first, second = host.leases
    host.users[first] = Process(pid=7, name="qemu")
    capsys.readouterr()
    assert vf(tmp_path, "release", path) == 1
    said = capsys.readouterr()
    assert f"{second}: released by web1" in said.out
    assert f"{first}: process 7 (qemu) still has it" in said.err
    assert list(host.leases) == [first]


def test_a_claim_may_be_repeated_while_qemu_has_the_vf(
    tmp_path: Path, host: FakeVfHost, capsys: pytest.CaptureFixture[str]
) -> None:
    path, address = in_use(tmp_path, host)
    capsys.readouterr()
    assert vf(tmp_path, "claim", path) == 0
    assert f"{address}, VF 0 of pf0: in use by process 7 (qemu)" in capsys.readouterr().out
    path.write_text(path.read_text().replace("vlan = 7", "vlan = 8"))
    assert vf(tmp_path, "claim", path) == 1, "what it is cannot change under the guest"
    assert host.states[address].vlan == 7
    assert list(host.leases) == [address]


@pytest.mark.parametrize("action", ["claim", "release"])
def test_the_vfs_of_an_unfinished_operation_are_left_to_it(
    tmp_path: Path, host: FakeVfHost, action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = described(tmp_path)
    vf(tmp_path, "claim", path)
    before = dict(host.leases)
    stopped = state(Phase.DETACH)
    journal = Journal.begin(
        tmp_path / "state" / "web1", Began(command="migrate", program="1", host=None)
    )
    journal.entered(stopped)
    journal.close()
    assert vf(tmp_path, action, path) == 1
    assert "guestagent-host recover" in capsys.readouterr().err
    assert host.leases == before


@pytest.mark.parametrize("seconds", ["-1", "soon", "inf"])
def test_a_wait_is_a_number_of_seconds(
    tmp_path: Path, seconds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        vf(tmp_path, "release", "--vf", "0000:01:10.0", f"--wait={seconds}")
    assert "seconds" in capsys.readouterr().err
