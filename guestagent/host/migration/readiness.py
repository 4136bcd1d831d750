"""Preconditions of a command. Pure."""

from __future__ import annotations

from guestagent.findings import Finding
from guestagent.host.migration.events import BothViews
from guestagent.host.migration.guest_location import GuestLocation, location_of
from guestagent.host.migration.state import Goal, State
from guestagent.host.model import QemuState


def not_ready(state: State, seen: BothViews) -> Finding | None:
    """Return the reason why the command cannot begin, or None."""
    home, away = seen.home, seen.away
    if home.unreachable is not None:
        return Finding(
            message=str(home),
            hint="check that the VM runs and that the path of its socket is right",
        )
    location = location_of(home, None)
    if location is GuestLocation.MOVING:
        return Finding(message=f"{home}: a migration is under way", hint="wait until it has ended")
    if state.goal is Goal.ATTACH:
        if home.run_state in {"inmigrate", "postmigrate"}:
            return Finding(
                message=f"{home}: the guest is not here",
                hint="attach where it runs: --on destination, or that host's own description",
            )
        return None
    if home.run_state == "paused":
        return Finding(
            message=f"{home}: a guest that stands still cannot release its VF",
            hint="find out what paused it and why; try again once it runs",
        )
    if not home.running:
        return Finding(
            message=f"{home}: no guest runs here",
            hint="describe the QEMU where it runs as [source]: a migration changes that",
        )
    if away is None or state.orchestrated:  # the destination may not be there yet
        return None
    return _unready_to_receive(state, away)


def _unready_to_receive(state: State, away: QemuState) -> Finding | None:
    if away.gone:
        return Finding(message=str(away), hint="start the destination QEMU with -incoming defer")
    if away.unreachable is not None:
        return Finding(
            message=str(away),
            hint="check that its QEMU and its host answer; with --dest, or host in [destination],"
            " ssh must reach it without a password and find guestagent-host there",
        )
    if away.run_state != "inmigrate" or away.migration is not None:
        return Finding(
            message=f"{away}: it does not wait for a guest",
            hint="start it anew with -incoming defer; each QEMU accepts one attempt only",
        )
    early = [vf for vf in state.target_vfs if vf in away.devices]
    if early:
        return Finding(
            message=f"{away.end}: device {early[0]} is there already",
            hint="start the destination with the same ports and without the VF",
        )
    return None
