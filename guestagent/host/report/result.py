"""Output of an operation: one JSON object for programs, a few lines for people.

Times are seconds of this host's CLOCK_MONOTONIC.
"""

from __future__ import annotations

from dataclasses import asdict

from guestagent.errors import EXIT_DONE, EXIT_FAILED, EXIT_TRY_AGAIN, GuestAgentError
from guestagent.host.migration.state import Goal, Phase, State
from guestagent.host.model import End, Vm
from guestagent.host.report.document import document, select
from guestagent.host.run.driver import OperationResult
from guestagent.host.terminal import coloured, size

_GREEN, _RED = 32, 31
_BAD = {Phase.UNKNOWN: "unknown", Phase.PREPARED: "try again later"}


def exit_code(outcome: OperationResult) -> int:
    """Return 0 if the goal is reached, 75 if it is not possible yet, 1 otherwise."""
    match outcome.state.phase:
        case Phase.DONE | Phase.UNDONE:
            return EXIT_DONE
        case Phase.PREPARED:
            return EXIT_DONE if outcome.state.problem is None else EXIT_TRY_AGAIN
        case _:
            return EXIT_FAILED


def accelerated(vm: Vm, state: State) -> bool:
    """Whether the guest has a VF in every pair, as far as is known."""
    return len(state.attached) == len(vm.pairs)


def as_json(vm: Vm, outcome: OperationResult, command: str) -> str:
    """Return the report for programs."""
    state = outcome.state
    return document(
        command=command,
        goal=state.goal,
        vm=vm.name,
        result=state.phase,
        exit_code=exit_code(outcome),
        running_on=state.guest_at,
        accelerated=accelerated(vm, state),
        guest=select(state, "switched", "confirmed"),
        message=state.problem.message if state.problem else None,
        hint=state.problem.hint if state.problem else None,
        warnings=state.warnings,
        phases=[
            {"name": span.phase, **select(span, "vf", "start_s", "end_s")}
            for span in outcome.spans
        ],
        moments=[
            {"name": each.name, "side": each.end, **select(each, "vf", "at_s", "received_s")}
            for each in outcome.moments
        ],
        migration=None if outcome.figures is None else asdict(outcome.figures),
    )


def error_as_json(command: str, error: GuestAgentError) -> str:
    """Return the report for programs on a command that ended with an error."""
    return document(
        command=command,
        result="error",
        exit_code=error.exit_code,
        message=str(error),
        hint=error.hint,
    )


def as_text(vm: Vm, outcome: OperationResult, command: str) -> str:
    """Return the report for people."""
    state = outcome.state
    if state.phase is Phase.UNDONE:
        return f"{vm.name}: {coloured('undone', _GREEN)}: {_undone(state, command)}"
    if state.problem is not None:
        word = coloured(_BAD.get(state.phase, "failed"), _RED)
        return f"{vm.name}: {word}: {state.problem.message}\n  what to do: {state.problem.hint}"
    if state.phase is Phase.PREPARED:
        word = coloured("prepared", _GREEN)
        return f"{vm.name}: {word}: migrate the guest now, then: complete, or rollback"
    lines = [f"{vm.name}: {coloured('done', _GREEN)}: {_done(vm, state)}"]
    lines += [
        f"  {span.phase:<8} {span.end_s - span.start_s:7.3f} s  {span.vf or ''}".rstrip()
        for span in outcome.spans
    ]
    if outcome.figures is not None:
        downtime = outcome.figures.downtime_ms
        lines.append(
            f"  moved {size(outcome.figures.transferred_bytes)}"
            f" in {outcome.figures.total_ms / 1000:.1f} s,"
            f" the guest stood still for {'?' if downtime is None else downtime} ms"
        )
    return "\n".join(lines)


def brief(vm: Vm, result: str, *, json: bool) -> str:
    """Return the report of a ``recover`` that found nothing to do, or of ``recover --forget``."""
    if json:
        return document(command="recover", vm=vm.name, result=result, exit_code=EXIT_DONE)
    if result == "nothing":
        return (
            f"{vm.name}: nothing to recover: every operation that was started on this host has"
            " finished; recover one that was started on another host there"
        )
    kept = "the VFs that it claimed stay claimed: see vf list and vf release"
    return f"{vm.name}: forgotten: the operation counts as failed, nothing was queried; {kept}"


def _undone(state: State, command: str) -> str:
    if state.guest_at is None:
        return f"{command}: the {state.goal} had not changed anything"
    vfs = ", ".join(state.attached) or "its standby NIC alone"
    where = f"the guest runs at {state.guest_at} with {vfs}"
    return f"{command}: the {state.goal} is undone, {where}"


def _done(vm: Vm, state: State) -> str:
    vfs = ", ".join(state.attached)
    match state.goal:
        case Goal.DETACH:
            return f"the guest at {state.home} is on its standby NIC"
        case Goal.ATTACH:
            return f"the guest at {state.home} has {vfs}"
        case Goal.MIGRATE:
            where = f"the guest runs at {End.DESTINATION}"
            if not vfs:
                return f"{where} on its standby NIC"
            return f"{where} with {vfs}" if accelerated(vm, state) else f"{where}, in part: {vfs}"
