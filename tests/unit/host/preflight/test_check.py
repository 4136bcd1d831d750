"""The pre-flight check: all that is in the way at once, and nothing that is not."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from guestagent.errors import UnknownOutcomeError
from guestagent.findings import Finding, Severity
from guestagent.host.hypervisor.qmp.locked import lockable_by
from guestagent.host.hypervisor.qmp.qemu import Qemu
from guestagent.host.migration.state import Goal, Phase
from guestagent.host.model import End, QemuCapabilities, QemuState
from guestagent.host.preflight.findings import EndFacts, PreflightFacts, combined
from guestagent.host.preflight.gather import gather_facts
from guestagent.host.preflight.rules import check_facts
from guestagent.host.report.check import as_json, as_text, exit_code
from guestagent.host.sriov.core.model import Lease, LeaseOwner, Process, Want
from tests.fakes.guest import FakeGuest
from tests.fakes.sriov import PF, FakeVfPool
from tests.unit.host.migration.test_transitions import SOURCE_RUNS, WAITS, state
from tests.unit.host.support import FAR_S, World, play, vm


async def findings(stage: World, guest: FakeGuest | None = None) -> tuple[Finding, ...]:
    """Do what ``guestagent-host check`` does."""
    qemus = {End.SOURCE: stage.source, End.DESTINATION: stage.destination}
    hypervisors = {end: Qemu(qemu.path, end, timeout_s=FAR_S) for end, qemu in qemus.items()}
    pools = {end: FakeVfPool(host) for end, host in stage.vf_hosts.items()}
    try:
        facts = await gather_facts(hypervisors, guest or FakeGuest(), pools)
        return check_facts(stage.vm, stage.first_state(), facts)
    finally:
        for hypervisor in hypervisors.values():
            await hypervisor.close()


def graded(found: tuple[Finding, ...], severity: Severity) -> list[str]:
    """Return the subjects of one grade."""
    return [finding.subject for finding in found if finding.severity is severity]


def test_nothing_is_in_the_way_of_a_whole_pair(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.provide_vfs()
        found = await findings(stage)
        assert graded(found, Severity.ERROR) == graded(found, Severity.WARNING) == []
        assert {finding.subject for finding in found} == {
            "operation",
            "guest",
            "capabilities",
            "standby",
            "port",
            "guest address",
            "vf",
            "agent",
        }
        assert exit_code(found) == 0
        assert "no obstacle" in as_text(stage.vm, found)
        changing = {"device_add", "device_del", "migrate", "migrate-set-parameters"}
        assert not changing & {*stage.source.commands, *stage.destination.commands}

    play(tmp_path, scenario)


def test_all_obstacles_are_reported_at_once_with_their_corrections(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.source.migration = "active"
        stage.source.can.discard("return-path")
        stage.destination.can.clear()
        stage.destination.fixed_ports.add("rp2")
        stage.destination.moved_ports = 1
        stage.vm = replace(
            stage.vm, pairs=(replace(stage.vm.pairs[0], standby="net7"), *stage.vm.pairs[1:])
        )
        found = await findings(stage)
        assert sorted(graded(found, Severity.ERROR)) == [
            "capabilities",
            "capabilities",
            "guest",
            "guest address",
            "port",
            "standby",
            "standby",
        ]
        bad = [finding for finding in found if finding.severity is Severity.ERROR]
        assert all(finding.hint for finding in bad)
        assert exit_code(found) == 1
        assert '"grade": "wrong"' in as_json(stage.vm, found)
        assert "7 obstacles" in as_text(stage.vm, found)
        whole = combined(found)
        assert whole is not None
        assert all(finding.message in whole.message for finding in bad)

    play(tmp_path, scenario)


def _no_port(stage: World) -> None:
    vf = replace(stage.vm.pairs[0].vf, bus="rp9")
    stage.vm = replace(stage.vm, pairs=(replace(stage.vm.pairs[0], vf=vf),))


def _port_in_use(stage: World) -> None:
    stage.destination.devices["disk1"] = {"driver": "nvme", "bus": "rp2"}


def _another_mac(stage: World) -> None:
    stage.vm = replace(stage.vm, pairs=(replace(stage.vm.pairs[0], mac="52:54:00:00:00:99"),))


def _no_such_vf(stage: World) -> None:
    stage.provide_vfs()
    del stage.vf_hosts[End.SOURCE].states["0000:01:10.0"]


def _not_together(stage: World) -> None:
    settings = replace(stage.vm.migration, postcopy=True, multifd_channels=2)
    stage.vm = replace(stage.vm, migration=settings)
    stage.destination.version = (10, 1, 0)


def _somebody_elses(stage: World) -> None:
    stage.provide_vfs()
    stage.vf_hosts[End.SOURCE].leases["0000:01:10.0"] = Lease(
        vf="0000:01:10.0",
        pf=PF,
        pf_name="pf0",
        index=0,
        owner=LeaseOwner(vm="web2", operation="1"),
        claimed_at="2026-01-01T00:00:00Z",
        prior=None,
        former_driver=None,
    )


def _which_vf(stage: World) -> None:
    stage.provide_vfs()
    pair = stage.vm.pairs[0]
    stage.vm = replace(stage.vm, pairs=(replace(pair, sriov=pair.destination_sriov),))


@pytest.mark.parametrize(
    ("way", "said"),
    [
        (_not_together, "source: QEMU 10.0.2 does not support post-copy together with multifd"),
        (_somebody_elses, "source: 0000:01:10.0 is held by lease of web2 (1)"),
        (_which_vf, "source: the VF of vf0 is not known"),
        (_no_port, "is described for rp9, which is no port; there are: rp1, rp2, rp3, rp4"),
        (_port_in_use, "destination: rp2 has disk1 already"),
        (_another_mac, "source: net0 has MAC 52:54:00:aa:00:01"),
        (_no_such_vf, "source: this host has no VF 0000:01:10.0"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, way: Callable[[World], None], said: str) -> None:
    async def scenario(stage: World) -> None:
        way(stage)
        found = await findings(stage)
        assert said in " ".join(
            finding.message for finding in found if finding.severity is Severity.ERROR
        )

    play(tmp_path, scenario)


def _absent(stage: World) -> None:
    stage.source.devices.clear()


def _another_vfio(stage: World) -> None:
    stage.source.devices["gpu0"] = {"driver": "vfio-pci", "bus": "rp3"}


def _smaller_mtu(stage: World) -> None:
    stage.provide_vfs()
    stage.vf_hosts[End.SOURCE].mtu = 9000


@pytest.mark.parametrize(
    ("way", "said"),
    [
        (_absent, "source: the guest has no vf0 and migrates without it"),
        (_another_vfio, "source: vfio-pci gpu0 is the VF of no pair"),
        (_smaller_mtu, "0000:01:10.0 of pf0 carries MTU 1500, and the source's pf0 9000"),
    ],
)
def test_warnings_are_reported_as_well(
    tmp_path: Path, way: Callable[[World], None], said: str
) -> None:
    async def scenario(stage: World) -> None:
        way(stage)
        found = await findings(stage)
        assert graded(found, Severity.ERROR) == []
        (warning,) = [finding for finding in found if finding.severity is Severity.WARNING]
        assert said in warning.message
        assert warning.hint

    play(tmp_path, scenario)


def test_each_pair_needs_a_vf_of_its_own(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.provide_vfs()
        host = stage.vf_hosts[End.DESTINATION]
        _, second = host.states
        pool = FakeVfPool(host)
        await pool.claim(Want(vf=second), LeaseOwner(vm="web2", operation="1"))
        found = [finding for finding in await findings(stage) if finding.subject == "vf"]
        assert [finding.severity for finding in found] == [Severity.OK, Severity.WARNING]
        (lease,) = host.leases.values()
        host.leases[second] = replace(
            lease, owner=LeaseOwner.by_hand("web1", stage.vm.pairs[1].mac)
        )
        found = [finding for finding in await findings(stage) if finding.subject == "vf"]
        assert [finding.severity for finding in found] == [Severity.OK, Severity.OK]
        assert f"{second} of pf0 is reserved for it" in found[1].message

    play(tmp_path, scenario, pairs=2)


def test_a_bus_that_is_no_pcie_port_is_left_to_the_attempt(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        vf = replace(stage.vm.pairs[0].vf, bus="pci.0")
        stage.vm = replace(stage.vm, pairs=(replace(stage.vm.pairs[0], vf=vf, destination_vf=vf),))
        found = await findings(stage)
        assert graded(found, Severity.WARNING) == ["port", "port"]
        assert exit_code(found) == 0

    play(tmp_path, scenario)


def test_a_missing_vf_and_a_missing_bond_are_warnings(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.provide_vfs()
        for vf in stage.vf_hosts[End.DESTINATION].states:
            stage.vf_hosts[End.DESTINATION].users[vf] = Process(pid=7, name="qemu")
        found = await findings(stage, FakeGuest(bonds=()))
        assert graded(found, Severity.WARNING) == ["vf", "agent"]
        assert exit_code(found) == 0
        text = as_text(stage.vm, found)
        assert "process 7 (qemu)" in text
        assert "would have no network while the VF is away" in text
        silent = await findings(stage, FakeGuest(failure=UnknownOutcomeError("silence")))
        assert "will lose packets: silence" in as_text(stage.vm, silent)

    play(tmp_path, scenario)


def test_without_a_destination_the_source_is_looked_at_all_the_same(tmp_path: Path) -> None:
    facts = PreflightFacts(source=EndFacts(view=SOURCE_RUNS), destination=None, guest=None)
    alone = replace(vm(tmp_path), destination=None)
    found = check_facts(alone, state(Phase.PREPARE, goal=Goal.DETACH), facts)
    assert graded(found, Severity.ERROR) == ["destination"]
    assert "guest" in graded(found, Severity.OK)


def test_a_side_that_does_not_answer_is_one_finding(tmp_path: Path) -> None:
    async def scenario(stage: World) -> None:
        stage.destination.end()
        found = await findings(stage)
        assert graded(found, Severity.ERROR) == ["guest"]
        assert "destination: QEMU has ended" in as_text(stage.vm, found)

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("lockable_bytes", "severity"),
    [(None, Severity.OK), (2**33, Severity.OK), (2**30, Severity.ERROR)],
)
def test_vfio_needs_all_of_the_guests_memory_locked(
    tmp_path: Path, lockable_bytes: int | None, severity: Severity
) -> None:
    means = QemuCapabilities(
        version=(10, 0, 2),
        capabilities=frozenset({"events", "return-path"}),
        memory_bytes=2**31,
        lockable_bytes=lockable_bytes,
        process="process 5",
    )
    described = vm(tmp_path)
    pair = replace(described.pairs[0], vf=replace(described.pairs[0].vf, driver="vfio-pci"))
    described = replace(described, pairs=(pair,))
    facts = PreflightFacts(
        source=EndFacts(view=SOURCE_RUNS, means=means),
        destination=EndFacts(view=WAITS),
        guest=None,
        other_operation=Finding(message="busy", hint="wait"),
    )
    found = check_facts(described, state(Phase.PREPARE), facts)
    assert [f.severity for f in found if f.subject == "locked memory"] == [severity]
    assert [f.message for f in found if f.subject == "operation"] == ["busy"]


def test_the_limit_is_that_of_the_process_behind_the_socket(tmp_path: Path) -> None:
    path = tmp_path / "qmp.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        assert f"process {os.getpid()}" in lockable_by(path)[1]
    assert "cannot be seen" in lockable_by(tmp_path / "other")[1]


@pytest.mark.parametrize(
    ("capabilities", "limit", "expected"),
    [
        ("0000000000000000", "8388608", 8388608),
        ("0000000000004000", "8388608", None),
        ("0000000000000000", "unlimited", None),
    ],
)
def test_a_process_that_may_lock_anything_is_not_limited(
    tmp_path: Path, capabilities: str, limit: str, expected: int | None
) -> None:
    path = "/run/vm/qmp.sock"
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "unix").write_text(
        "Num       RefCount Protocol Flags    Type St Inode Path\n"
        f"0000000000000000: 00000002 00000000 00010000 0001 01 4711 {path}\n"
        f"0000000000000000: 00000003 00000000 00000000 0001 03 4712 {path}\n"
    )
    process = tmp_path / "77"
    (process / "fd").mkdir(parents=True)
    (process / "fd" / "3").symlink_to("socket:[4711]")
    (process / "status").write_text(f"Name:\tqemu\nCapEff:\t{capabilities}\n")
    (process / "limits").write_text(
        f"Limit  Soft Limit  Hard Limit  Units\nMax locked memory  {limit}  {limit}  bytes\n"
    )
    assert lockable_by(Path(path), proc=tmp_path)[0] == expected


def test_a_view_that_is_not_there_is_no_destination(tmp_path: Path) -> None:
    facts = PreflightFacts(
        source=EndFacts(view=QemuState(end=End.SOURCE, unreachable="x", gone=True)),
        destination=None,
        guest=None,
    )
    found = check_facts(vm(tmp_path), state(Phase.PREPARE), facts)
    assert graded(found, Severity.ERROR) == ["guest"]
