"""Timeline of an operation, read from its journal: begin, end and result of each phase.

Times are seconds since the operation began. Within one process they are those of
the monotonic clock; from one process to the next, as from a helper that was
killed to the one that recovered, the wall clock has to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.sax.saxutils import escape

from guestagent.host.migration import events
from guestagent.host.migration.state import Phase, State
from guestagent.host.model import MigrationFigures
from guestagent.host.report.document import document, select
from guestagent.host.store.journal import Began, EffectEnded, Entered, Observed, Operation
from guestagent.host.terminal import size

_BAR = 40
_ROW, _LEFT, _WIDTH, _MARGIN = 24, 220, 760, 16
_COLOURS = {
    Phase.MIGRATE: "#9ec5e8",
    Phase.DETACH: "#f6c28b",
    Phase.ATTACH: "#b9a7e0",
    Phase.RESTORE: "#b9a7e0",
    Phase.SWITCH: "#f0df91",
    Phase.CONFIRM: "#f0df91",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A phase from its beginning to its end; ``vf`` is its device, if any."""

    phase: Phase
    vf: str | None
    begin_s: float
    end_s: float
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that happened at one moment."""

    at_s: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """One operation from its beginning to its end, or as far as it has come."""

    number: int
    command: str
    began: datetime
    stretches: tuple[Stretch, ...]
    marks: tuple[Mark, ...]
    state: State | None
    figures: MigrationFigures | None

    @property
    def length_s(self) -> float:
        """The duration."""
        ends = [each.end_s for each in self.stretches] + [mark.at_s for mark in self.marks]
        return max(ends, default=0.0)


def timeline(operation: Operation) -> Timeline:
    """Read the course of an operation from its journal."""
    first_unix_s = operation.records[0].unix_s if operation.records else 0.0
    stretches: list[Stretch] = []
    marks: list[Mark] = []
    figures: MigrationFigures | None = None
    shift_s = now_s = 0.0
    under_way: tuple[State, float] | None = None
    for record in operation.records:
        last_s = now_s
        if isinstance(record.what, Began):
            shift_s = record.unix_s - first_unix_s - record.mono_s
        now_s = record.mono_s + shift_s
        match record.what:
            case Began(command=command):
                if under_way is not None:
                    _add(stretches, *under_way, last_s, "the process ended here")
                    under_way = None
                if stretches:
                    marks.append(Mark(at_s=now_s, text=f"{command} resumes it"))
            case Entered(state=state):
                under_way = None if state.phase.final else (state, now_s)
            case EffectEnded(event=event) if under_way is not None:
                _add(stretches, *under_way, now_s, _result(event))
                under_way = None
            case Observed(moments=moments, figures=figures):
                marks += [
                    Mark(at_s=each.at_s + shift_s, text=_of(each.end, each.name, each.vf))
                    for each in moments
                ]
    if under_way is not None:
        _add(stretches, *under_way, now_s, "not finished")
    return Timeline(
        number=int(operation.path.stem),
        command=operation.command,
        began=datetime.fromtimestamp(first_unix_s, UTC),
        stretches=tuple(stretches),
        marks=tuple(sorted(marks, key=lambda mark: mark.at_s)),
        state=operation.state,
        figures=figures,
    )


def _add(
    stretches: list[Stretch], state: State, begin_s: float, end_s: float, result: str
) -> None:
    """Add a stretch; a repetition of the last one lengthens that."""
    about_one = {Phase.DETACH, Phase.PROGRAM, Phase.REPROGRAM, Phase.ATTACH, Phase.RESTORE}
    vf = state.todo[0] if state.todo and state.phase in about_one else None
    if stretches and (stretches[-1].phase, stretches[-1].vf) == (state.phase, vf):
        begin_s = stretches.pop().begin_s
    stretches.append(
        Stretch(phase=state.phase, vf=vf, begin_s=begin_s, end_s=end_s, result=result)
    )


def _result(event: events.Event) -> str:
    match event:
        case events.BothViews(home=home, away=away):
            return "; ".join(str(view) for view in (home, away) if view is not None)
        case events.NoVfAvailable(detail=detail) | events.Rejected(detail=detail):
            return f"refused: {detail}"
        case events.OutcomeUnknown(detail=detail) | events.TimedOut(detail=detail):
            return f"unclear: {detail}"
        case events.Succeeded():
            return "done"
        case events.Cancel():
            return "cancel"


def _of(end: str, name: str, vf: str | None) -> str:
    return f"{end}: {name.replace('_', ' ')}{f' {vf}' if vf else ''}"


# --- shown ----------------------------------------------------------------------------------


def as_json(vm: str, line: Timeline, kept: tuple[int, ...]) -> str:
    """Return the timeline for programs."""
    state, figures = line.state, line.figures
    return document(
        command="report",
        vm=vm,
        operation=line.number,
        operations=kept,
        of=line.command,
        began=line.began.isoformat(),
        length_s=line.length_s,
        result=None if state is None else state.phase,
        running_on=None if state is None else state.guest_at,
        attached=[] if state is None else state.attached,
        message=state.problem.message if state and state.problem else None,
        warnings=[] if state is None else state.warnings,
        phases=[
            {
                "name": each.phase,
                **select(each, "vf", "begin_s", "end_s"),
                "came_to": each.result,
            }
            for each in line.stretches
        ],
        moments=[{"at_s": mark.at_s, "what": mark.text} for mark in line.marks],
        downtime_ms=None if figures is None else figures.downtime_ms,
        transferred_bytes=None if figures is None else figures.transferred_bytes,
    )


def as_text(vm: str, line: Timeline) -> str:
    """Return the timeline for people: one row for each phase, what happened meanwhile between."""
    rows: list[tuple[float, str]] = [
        (each.begin_s, _row(each, line.length_s)) for each in line.stretches
    ]
    rows += [(mark.at_s, f"{mark.at_s:9.3f} s  · {mark.text}") for mark in line.marks]
    result = "nothing was begun" if line.state is None else line.state.phase
    head = (
        f"{vm}: {line.command} number {line.number}, {line.began:%Y-%m-%d %H:%M:%S} UTC: {result}"
    )
    return "\n".join(
        [head, *(text for _, text in sorted(rows, key=lambda r: r[0])), *_summary(line)]
    )


def _row(each: Stretch, length_s: float) -> str:
    scale = _BAR / length_s if length_s else 0.0
    before = min(_BAR - 1, int(each.begin_s * scale))
    cells = min(_BAR - before, max(1, round((each.end_s - each.begin_s) * scale)))
    bar = f"{' ' * before}{'#' * cells}".ljust(_BAR)
    name = f"{each.phase} {each.vf or ''}".rstrip()
    end = "" if each.result == "done" else f"  {each.result}"
    return f"{each.begin_s:9.3f} s  {name:<16} |{bar}| {each.end_s - each.begin_s:8.3f} s{end}"


def _summary(line: Timeline) -> Iterator[str]:
    if line.figures is not None:
        stop = "?" if line.figures.downtime_ms is None else line.figures.downtime_ms
        yield f"moved {size(line.figures.transferred_bytes)}, the guest stood still for {stop} ms"
    if line.state is not None:
        yield from (f"warning: {warning}" for warning in line.state.warnings)
        if line.state.problem is not None:
            yield f"problem: {line.state.problem.message}"


def as_svg(vm: str, line: Timeline) -> str:
    """Return the timeline as a picture."""
    scale = (_WIDTH - _LEFT - _MARGIN) / (line.length_s or 1.0)
    height = _ROW * (len(line.stretches) + len(line.marks) + 2)
    title = f"{vm}: {line.command}, {line.began:%Y-%m-%d %H:%M:%S} UTC, {line.length_s:.3f} s"
    size_of = f'width="{_WIDTH + 200}" height="{height}"'
    style = 'font-family="sans-serif" font-size="13"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size_of} {style}>',
        f'<text x="{_MARGIN}" y="{_ROW - 7}" font-weight="bold">{escape(title)}</text>',
    ]
    for number, each in enumerate(line.stretches, start=1):
        x, y = _LEFT + each.begin_s * scale, number * _ROW
        width = max(1.0, (each.end_s - each.begin_s) * scale)
        parts.append(
            f'<text x="{_MARGIN}" y="{y + 16}">{each.phase} {escape(each.vf or "")}</text>'
            f'<rect x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="{_ROW - 6}"'
            f' fill="{_COLOURS.get(each.phase, "#c8d0d8")}"><title>{escape(each.result)}</title>'
            f'</rect><text x="{x + width + 4:.1f}" y="{y + 16}" fill="#555">'
            f"{each.end_s - each.begin_s:.3f} s</text>"
        )
    for number, mark in enumerate(line.marks, start=len(line.stretches) + 1):
        x, y = _LEFT + mark.at_s * scale, number * _ROW
        parts.append(
            f'<line x1="{x:.1f}" y1="{_ROW}" x2="{x:.1f}" y2="{y + 8}" stroke="#b03a2e"'
            f' stroke-dasharray="3 3"/><text x="{x + 4:.1f}" y="{y + 16}" fill="#b03a2e">'
            f"{escape(mark.text)}, {mark.at_s:.3f} s</text>"
        )
    return "\n".join([*parts, "</svg>\n"])
