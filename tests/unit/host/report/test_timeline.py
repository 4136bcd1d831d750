"""The course of an operation, drawn from its journal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from guestagent.host.migration.events import Rejected, Succeeded
from guestagent.host.migration.state import Phase
from guestagent.host.model import End, MigrationFigures, Moment
from guestagent.host.report.timeline import Timeline, as_json, as_svg, as_text, timeline
from guestagent.host.store.journal import Began, Journal, Record, operation, read
from tests.unit.host.cli.test_main import run, stage
from tests.unit.host.store.test_journal import BEGAN, FIRST, SEEN
from tests.unit.host.support import World

__all__ = ["stage"]


def course(tmp_path: Path) -> Timeline:
    """A detach that was killed, with 10 s to its recovery; each line a second after the last."""
    journal = Journal.begin(tmp_path, BEGAN)
    detach = replace(FIRST, phase=Phase.DETACH, todo=("vf0",))
    journal.entered(FIRST)
    journal.effect_ended(SEEN)
    journal.entered(detach)
    journal.effect_ended(Rejected(detail="<busy>"))
    journal.entered(replace(detach, tries=1))
    journal.write(Began(command="recover", program="1"), durable=True)
    journal.entered(replace(FIRST, phase=Phase.RESTORE, todo=("vf0",)))
    journal.effect_ended(Succeeded())
    moment = Moment(name="device_added", end=End.SOURCE, vf="vf0", at_s=507.5, received_s=508.0)
    figures = MigrationFigures(total_ms=1, downtime_ms=20, setup_ms=None, transferred_bytes=2**20)
    journal.observed([moment], figures)
    journal.entered(replace(FIRST, phase=Phase.UNDONE, warnings=("look & see",)))
    journal.close()
    written = read(journal.path)
    # The second process is on a host that was started anew: its monotonic clock began again.
    records = tuple(
        replace(
            record,
            unix_s=1000.0 + number + (10.0 if number > 5 else 0.0),
            mono_s=(100.0 if number < 6 else 500.0) + number,
        )
        for number, record in enumerate(written.records)
    )
    assert all(isinstance(record, Record) for record in records)
    return timeline(replace(written, records=records))


def test_phases_have_their_times_and_what_they_came_to(tmp_path: Path) -> None:
    line = course(tmp_path)
    assert [(s.phase, s.vf, s.begin_s, s.end_s) for s in line.stretches] == [
        (Phase.PREPARE, None, 1.0, 2.0),
        (Phase.DETACH, "vf0", 3.0, 5.0),
        (Phase.RESTORE, "vf0", 17.0, 18.0),
    ]
    assert line.stretches[1].result == "the process ended here"
    assert [(mark.at_s, mark.text) for mark in line.marks] == [
        (16.0, "recover resumes it"),
        (17.5, "source: device added vf0"),
    ]
    assert line.length_s == 18.0


def test_it_is_shown_in_the_order_of_time(tmp_path: Path) -> None:
    lines = as_text("web1", course(tmp_path)).splitlines()
    assert "migrate number 1, 1970-01-01 00:16:40 UTC: undone" in lines[0]
    order = ["prepare", "detach vf0", "recover resumes it", "restore vf0", "device added"]
    assert [word in line for word, line in zip(order, lines[1:], strict=False)] == [True] * 5
    assert "stood still for 20 ms" in lines[-2]
    assert lines[-1] == "warning: look & see"


def test_the_picture_is_well_formed(tmp_path: Path) -> None:
    picture = ET.fromstring(as_svg("<web1>", course(tmp_path)))  # noqa: S314 - our own
    rectangles = [each for each in picture.iter() if each.tag.endswith("rect")]
    assert len(rectangles) == 3


def test_programs_get_the_same(tmp_path: Path) -> None:
    document = json.loads(as_json("web1", course(tmp_path), (1,)))
    assert (document["of"], document["result"], document["operations"]) == (
        "migrate",
        "undone",
        [1],
    )
    assert len(document["phases"]) == 3


def test_an_operation_that_was_torn_at_any_line_can_be_drawn(tmp_path: Path) -> None:
    course(tmp_path)
    whole = operation(tmp_path, 1)
    for length in range(len(whole.records) + 1):
        assert as_text("web1", timeline(replace(whole, records=whole.records[:length])))


def test_report_draws_the_last_operation(
    tmp_path: Path, stage: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "report") == 1
    assert "web1: no operation on this VM was started here" in capsys.readouterr().err
    assert run(tmp_path, "migrate") == 0
    capsys.readouterr()
    assert run(tmp_path, "report", "--svg", str(tmp_path / "line.svg")) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("detach vf0", "migrate", "destination: resume", "45 ms"))
    assert (tmp_path / "line.svg").read_text().startswith("<svg")
    assert run(tmp_path, "report", "--json", "--operation", "1") == 0
    assert json.loads(capsys.readouterr().out)["running_on"] == "destination"
    assert run(tmp_path, "report", "--operation", "7") == 1
    assert stage.destination.run_state == "running"
