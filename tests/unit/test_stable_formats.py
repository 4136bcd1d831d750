"""Formats that outlive a version of the program: files on disk, protocols, and ``--json``.

``formats/`` holds texts of version 0.1. Each must be read as it is, and written again as the
same text: names of classes and members in the program may change, those in the texts may not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from guestagent import protocol
from guestagent.codec import plain, value_of
from guestagent.errors import BusyError, ConflictError, GuestAgentError, PeerError
from guestagent.findings import Finding, Severity
from guestagent.guest.core.policy import BondOptions, HealthOptions, PairPolicy, Policy
from guestagent.guest.core.snapshot import RememberedPair
from guestagent.guest.report.status import Status
from guestagent.guest.state import config as guest_config
from guestagent.guest.state.holds import Holds
from guestagent.guest.state.known_pairs import PairStore
from guestagent.guest.state.undone_pairs import UndonePairs
from guestagent.host.config import description
from guestagent.host.migration.events import Event
from guestagent.host.migration.state import Phase, State
from guestagent.host.model import GuestInterface, QemuState, Topology, Vm
from guestagent.host.remote import rpc
from guestagent.host.report import check, inspect, result, timeline, vf_result
from guestagent.host.run.driver import OperationResult, Span
from guestagent.host.sriov import records
from guestagent.host.sriov.core.model import Inventory, Lease, Macvtap, Process
from guestagent.host.store.journal import Began, Entered, Journal, Observed, Operation, read
from guestagent.json_fields import Obj
from guestagent.protocol import WireError

FORMATS = Path(__file__).with_name("formats")
MAC = "52:54:00:aa:00:01"


def text(name: str) -> str:
    """Return a text of version 0.1."""
    return (FORMATS / name).read_text()


def documents(name: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a file that has one on each line."""
    return (json.loads(line) for line in text(name).splitlines())


# --- the host's journal ----------------------------------------------------------------------


@pytest.fixture
def operation() -> Operation:
    """Return an operation with every kind of record, event, phase and goal."""
    return read(FORMATS / "journal.jsonl")


def test_the_journal_of_an_earlier_version_is_read_and_written_as_it_was(
    operation: Operation,
) -> None:
    lines = [
        {"v": 1, "unix_s": each.unix_s, "mono_s": each.mono_s, "what": plain(each.what)}
        for each in operation.records
    ]
    written = "".join(f"{json.dumps(line, separators=(',', ':'))}\n" for line in lines)
    assert written == text("journal.jsonl")


def test_the_journal_writes_each_record_as_earlier_versions_did(
    operation: Operation, tmp_path: Path
) -> None:
    first, *others = (record.what for record in operation.records)
    assert isinstance(first, Began)
    journal = Journal.begin(tmp_path, first)
    for what in others:
        journal.write(what, durable=False)
    journal.close()
    written = [json.loads(line) for line in journal.path.read_text().splitlines()]
    assert [list(line) for line in written] == [["v", "unix_s", "mono_s", "what"]] * len(written)
    assert [line["what"] for line in written] == [
        line["what"] for line in documents("journal.jsonl")
    ]


def test_the_text_has_every_member_of_a_state_every_phase_and_every_event(
    operation: Operation,
) -> None:
    states = [r.what.state for r in operation.records if isinstance(r.what, Entered)]
    assert {state.phase for state in states} == set(Phase)
    members = {member for state in states for member in plain(state)}
    assert members == {"is"} | {
        str(each.metadata.get("wire", each.name)) for each in State.__dataclass_fields__.values()
    }
    events = {
        line["what"]["event"]["is"]
        for line in documents("journal.jsonl")
        if "event" in line["what"]
    }
    assert events == {getattr(kind, "WIRE_NAME", kind.__name__) for kind in Event.__args__}


# --- leases, and the guest's files -----------------------------------------------------------


@pytest.mark.parametrize("name", ["lease-full.json", "lease-bare.json"])
def test_a_lease_of_an_earlier_version_is_read_and_written_as_it_was(
    name: str, tmp_path: Path
) -> None:
    address = json.loads(text(name))["vf"]
    (tmp_path / f"{address}.json").write_text(text(name))
    store = records.Records(tmp_path)
    lease = store.all()[address]
    store.replace(lease)
    assert (tmp_path / f"{address}.json").read_text() == text(name)


def test_the_remembered_pairs_are_read_and_written_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "pairs.json").write_text(text("pairs.json"))
    known = PairStore(tmp_path).load()
    assert known == (
        RememberedPair(mac="52:54:00:12:34:56", bond="bond0"),
        RememberedPair(mac="52:54:00:12:34:57", bond="lan0"),
    )
    other = tmp_path / "other"
    other.mkdir()
    for pair in known:
        PairStore(other).add(pair)
    assert (other / "pairs.json").read_text() == text("pairs.json")


def test_the_holds_are_read_and_written_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "leases.json").write_text(text("leases.json"))
    assert Holds(tmp_path, lambda: 1000.25).remaining_s("52:54:00:12:34:56") == 120.0
    other = Holds(tmp_path / "other", lambda: 1000.25)
    other.hold("52:54:00:12:34:56", 120.0)
    other.hold("52:54:00:12:34:57", 0.5)
    assert (tmp_path / "other" / "leases.json").read_text() == text("leases.json")


def test_the_undone_pairs_are_read_and_written_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "released.json").write_text(text("released.json"))
    macs = UndonePairs(tmp_path).current()
    assert macs == {"52:54:00:12:34:56", "52:54:00:12:34:57"}
    UndonePairs(tmp_path / "other").add(macs)
    assert (tmp_path / "other" / "released.json").read_text() == text("released.json")


# --- configuration ---------------------------------------------------------------------------


def test_every_key_of_the_guests_configuration_is_read_as_it_was() -> None:
    options = BondOptions(
        miimon_ms=50, fail_over_mac=1, announcements=4, announcement_spacing_ms=200
    )
    assert guest_config.load(FORMATS / "guestagent.toml") == Policy(
        bond_name="lan%d",
        only=frozenset({"virtio_net"}),
        unseen=True,
        excluded=frozenset({"52:54:00:12:34:aa", "0000:07:00.0", "sfc"}),
        pairs=(
            PairPolicy(
                mac="52:54:00:12:34:56", bond_name="lan0", options=replace(options, miimon_ms=20)
            ),
        ),
        control_group="adm",
        options=options,
        health=HealthOptions(gateway=True, interval_s=7, hold_down_s=40),
    )


def test_every_key_of_a_vm_description_is_read_as_it_was() -> None:
    assert members(plain(web1())) == members(json.loads(text("web1.json")))


def web1() -> Vm:
    """Return the VM that the printed texts are about."""
    return description.load(FORMATS / "web1.toml")


def members(value: Any) -> Any:
    """Return a document without the names of classes."""
    if isinstance(value, Mapping):
        return {key: members(item) for key, item in value.items() if key != "is"}
    return [members(item) for item in value] if isinstance(value, list) else value


# --- protocols -------------------------------------------------------------------------------


def test_the_control_protocol_is_read_and_written_as_it_was() -> None:
    lines = (FORMATS / "control.jsonl").read_bytes().splitlines(keepends=True)
    requests = [protocol.parse_request(line) for line in lines[:3]]
    assert lines == [
        *(
            protocol.encode_request(each.name, ident=each.id, arguments=each.arguments.value)
            for each in requests
        ),
        protocol.encode_result(7, {"pairs": []}),
        protocol.encode_result(None, {"frames": 3}),
        protocol.encode_error(7, GuestAgentError("no pair", hint="see status")),
        protocol.encode_error("a", BusyError("busy")),
        protocol.encode_error(None, WireError("not JSON")),
    ]
    assert [protocol.parse_object(line).boolean("ok") for line in lines[3:]] == [True] * 2 + [
        False
    ] * 3


def test_every_call_to_another_host_is_read_and_written_as_it_was() -> None:
    lines = (FORMATS / "rpc.jsonl").read_bytes().splitlines(keepends=True)
    names = set()
    for call, answer in zip(lines[::2], lines[1::2], strict=True):
        ident, name, arguments = rpc.read_request(call)
        assert rpc.request(ident, name, arguments) == call
        assert rpc.answer(ident, rpc.read_answer(answer, ident, name, "host2")) == answer
        names.add(name)
    assert names == set(rpc.CALLS)


def test_every_error_from_another_host_is_read_and_written_as_it_was() -> None:
    *lines, without_call = (FORMATS / "rpc-errors.jsonl").read_bytes().splitlines(keepends=True)
    for line in lines:
        with pytest.raises(GuestAgentError) as caught:
            rpc.read_answer(line, 5, "look", "host2")
        error = type(caught.value)("it says no", hint="look there")
        assert rpc.failure(5, error) == line
    assert rpc.failure(None, PeerError("not a call")) == without_call


# --- what is printed with --json -------------------------------------------------------------


def given(name: str) -> Any:
    """Return the value that a call to another host had."""
    answers = list(documents("rpc.jsonl"))
    index = next(n for n, each in enumerate(answers) if each.get("call") == name)
    return value_of(rpc.CALLS[name].result, answers[index + 1]["value"])


def test_the_status_is_read_and_printed_as_it_was() -> None:
    status = Status.from_json(Obj.parse(text("status.json")))
    assert f"{json.dumps(status.as_json(), indent=2)}\n" == text("status.json")


def test_check_prints_what_it_did() -> None:
    findings = (
        Finding(severity=Severity.OK, subject="source", message="runs"),
        Finding(severity=Severity.WARNING, subject="guest", message="no agent", hint="install it"),
        Finding(severity=Severity.ERROR, subject="vf0", message="no VF", hint="make one"),
    )
    assert f"{check.as_json(web1(), findings)}\n" == text("check.json")


def test_inspect_prints_what_it_did() -> None:
    view: QemuState = given("look")
    topology: Topology = given("topology")
    interfaces = (GuestInterface(name="ens1", mac=MAC, addresses=("192.0.2.1",)),)
    inspection = inspect.Inspection(vm=web1(), view=view, topology=topology, interfaces=interfaces)
    assert f"{inspect.as_json(inspection)}\n" == text("inspect.json")


def test_a_command_prints_the_result_that_it_did(operation: Operation) -> None:
    states = [r.what.state for r in operation.records if isinstance(r.what, Entered)]
    observed = next(r.what for r in operation.records if isinstance(r.what, Observed))
    spans = (
        Span(phase=Phase.DETACH, vf="vf0", start_s=1.0, end_s=2.5),
        Span(phase=Phase.MIGRATE, vf=None, start_s=2.5, end_s=4.0),
    )
    full = OperationResult(
        state=replace(states[1], phase=Phase.FAILED),
        spans=spans,
        moments=observed.moments,
        figures=observed.figures,
    )
    bare = OperationResult(
        state=replace(states[0], phase=Phase.DONE), spans=(), moments=(), figures=None
    )
    assert f"{result.as_json(web1(), full, 'migrate')}\n" == text("result.json")
    assert f"{result.as_json(web1(), bare, 'detach')}\n" == text("result-bare.json")


def test_a_command_that_failed_or_had_nothing_to_do_prints_what_it_did() -> None:
    error = ConflictError("x: busy", hint="wait")
    assert f"{result.error_as_json('migrate', error)}\n" == text("result-error.json")
    assert f"{result.brief(web1(), 'nothing', json=True)}\n" == text("recover-nothing.json")


def test_report_prints_what_it_did() -> None:
    line = timeline.timeline(read(FORMATS / "000007.jsonl"))
    assert f"{timeline.as_json('web1', line, (6, 7))}\n" == text("report.json")


def test_vf_commands_print_what_they_did() -> None:
    inventory: Inventory = given("vf.inventory")
    full: Lease = given("vf.adopt")
    bare: Lease = given("vf.claim")
    macvtap: Macvtap = given("vf.create_macvtap")
    claimed = (
        vf_result.Claimed(mac=MAC, lease=full, macvtap=macvtap, user=Process(pid=77, name="qemu")),
        vf_result.Claimed(mac="52:54:00:aa:00:02", lease=bare),
    )
    released = (vf_result.Released(lease=full, warnings=("no trust",)),)
    assert f"{vf_result.listed_as_json(inventory)}\n" == text("vf-list.json")
    assert f"{vf_result.claimed_as_json(claimed)}\n" == text("vf-claim.json")
    assert f"{vf_result.released_as_json(released)}\n" == text("vf-release.json")
