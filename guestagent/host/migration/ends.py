"""Plugging VFs, the ends of an operation, and the way to them. Pure; see ``transitions``."""

from __future__ import annotations

from dataclasses import replace

from guestagent.findings import Finding
from guestagent.host.migration.state import Goal, Phase, State

_PLUG_PHASES = frozenset({Phase.PROGRAM, Phase.ATTACH, Phase.REPROGRAM, Phase.RESTORE})
_RESTORE_PHASES = frozenset({Phase.REPROGRAM, Phase.RESTORE})


def query_ends(state: State, problem: Finding | None = None) -> State:
    """Enter DECIDE; an earlier problem takes precedence over ``problem``."""
    tries = state.tries if state.phase in _PLUG_PHASES else 0
    return replace(
        state, phase=Phase.DECIDE, tries=tries, programmed=(), problem=state.problem or problem
    )


def plug(state: State) -> State:
    """Continue with the next VF that has an attempt left; after the last one, end the phase."""
    if state.todo and state.tries >= state.limits.attach_tries:
        failed = (*state.not_attached, state.todo[0])
        return plug(replace(state, not_attached=failed, todo=state.todo[1:], tries=0))
    restoring = state.phase in _RESTORE_PHASES
    if state.todo:
        managed = state.home_managed if restoring else state.target_managed
        if state.todo[0] in managed and state.todo[0] not in state.programmed:
            return replace(state, phase=Phase.REPROGRAM if restoring else Phase.PROGRAM)
        return replace(state, phase=Phase.RESTORE if restoring else Phase.ATTACH)
    missing = f"{state.guest_at or state.home}: not attached: {', '.join(state.not_attached)}"
    if restoring:
        return fail_and_restore(warned(state, missing) if state.not_attached else state)
    if not state.not_attached:
        return _confirm(state)
    return fail_and_restore(
        state,
        Finding(
            message=f"{missing}; the guest runs there on its standby NIC",
            hint="correct the cause named in the warnings, then run: guestagent-host attach --on"
            f" {state.guest_at or state.home} with the same description, and --dest if any",
        ),
    )


def finish(state: State, phase: Phase) -> State:
    """End in ``phase``; where leases may be held, release those of unused VFs first."""
    if state.reserved:
        return replace(state, phase=Phase.TIDY, ending=phase)
    return replace(state, phase=phase)


def _confirm(state: State) -> State:
    """End in success, after asking the guest whether it uses its VFs.

    A guest that gave no answer before is asked again: its agent may have been busy, and if
    the agent is dead the guest continues on its standby.
    """
    asks = state.attached and state.guest_at in state.reachable
    return replace(state, phase=Phase.CONFIRM) if asks else finish(state, Phase.DONE)


def fail_and_restore(state: State, problem: Finding | None = None) -> State:
    """End in failure, after asking the guest to use its VFs again.

    The guest is asked if it may have left its VFs or was given one: it may have left them
    when its answer was lost, and some of them when it refused.
    """
    state = replace(state, problem=state.problem or problem)
    concerned = state.switched is not None or state.goal is Goal.ATTACH
    asks = concerned and state.attached and state.guest_at in state.reachable
    return replace(state, phase=Phase.RETURN) if asks else finish(state, failure_phase(state))


def failure_phase(state: State) -> Phase:
    """Return the end of an operation that missed its goal.

    UNDONE if a rollback counts as success and the guest is as it was before, else FAILED.
    """
    undone = state.rollback_is_success and state.guest_at is state.home and not state.not_attached
    return Phase.UNDONE if undone else Phase.FAILED


def fail(state: State, problem: Finding) -> State:
    """End in failure; an earlier problem takes precedence over ``problem``."""
    return finish(replace(state, problem=state.problem or problem), Phase.FAILED)


def end_unproved(state: State, answers: str) -> State:
    """End in UNKNOWN; the leases are kept."""
    before = "" if state.problem is None else f"{state.problem.message}. "
    return replace(
        state,
        phase=Phase.UNKNOWN,
        guest_at=None,
        problem=Finding(
            message=f"{before}Where the guest runs cannot be proved: {answers}",
            hint="nothing more was changed: look at both QEMUs; let the guest run at one end"
            " only, and only after the other QEMU has ended; then run: guestagent-host recover"
            " with the same description",
        ),
    )


def warned(state: State, warning: str) -> State:
    """Add a warning."""
    return replace(state, warnings=(*state.warnings, warning))
