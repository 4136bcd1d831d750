"""The table of the host's state machine for the documentation, generated from the code.

``python -m tests.lint.state_table`` writes it between the markers of the page.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from guestagent.host.migration.state import Phase
from guestagent.host.migration.transitions import TRANSITIONS, Transition
from tests.lint.tree import ROOT
from tests.unit.host.migration.test_transitions import EFFECTS

PAGE = ROOT / "docs" / "design" / "host-migration.md"
BEGIN, END = "<!-- state-table:begin -->\n", "<!-- state-table:end -->\n"
_ORDER = list(Phase)


def table() -> str:
    """Return the table as Markdown: a row for each phase and each group of its events."""
    rows = ["| phase | effect | result of the effect | next phase |", "| --- | --- | --- | --- |"]
    for phase in Phase:
        effect = EFFECTS[phase].__name__ if phase in EFFECTS else "none"
        lines = list(_lines(phase)) or [("", "")]
        for number, (events, following) in enumerate(lines):
            head = f"`{phase.name}` | {effect}" if number == 0 else " | "
            rows.append(f"| {head} | {events} | {following} |")
    return "\n".join(rows) + "\n"


def _lines(phase: Phase) -> Iterator[tuple[str, str]]:
    rows = TRANSITIONS.get(phase, {}).items()
    for transition, events in groupby(rows, key=lambda row: row[1]):
        yield ", ".join(event.__name__ for event, _ in events), _following(transition)


def _following(transition: Transition) -> str:
    phases = ", ".join(f"`{each.name}`" for each in sorted(transition.to, key=_ORDER.index))
    return f"{phases} ({transition.note})" if transition.note else phases


def with_table(page: str) -> str:
    """Return the page with the present table between its markers."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
