"""The picture of a migration: its phases, every lost packet, the port in use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab.migration.phases import LossPhase
from lab.probe.probe import Result

COLOURS = {
    "before": "#eef3f8",
    "switch": "#f5ecc4",
    "unplug": "#f6d9b8",
    "move": "#dcebdc",
    "downtime": "#f2c4c4",
    "arrive": "#dcebdc",
    "plug": "#d8d3ee",
    "after": "#eef3f8",
}
FLOWS = {"icmp": "ICMP echo", "udp-in": "UDP to the guest", "udp-out": "UDP from the guest"}
LOSS_COLOUR = "#c0392b"
PORT_COLOUR = "#1f5a96"
PORT_LEVELS = {"none": 0.0, "standby": 1.0, "vf": 2.0}
ZOOM_MARGIN_S = 0.08


def draw(result: Result, phases: Sequence[LossPhase], target: Path) -> None:
    """Write ``target.svg`` and ``target.png``."""
    zoomed = [phase for phase in phases if phase.lost]
    with mpl.rc_context({"font.size": 9, "font.family": "sans-serif", "svg.hashsalt": "timeline"}):
        figure = Figure(figsize=(12, 7.2 if zoomed else 4.6), layout="constrained")
        figure.suptitle(_title(result, phases), x=0.012, ha="left", fontsize=12, weight="bold")
        grid = figure.add_gridspec(3 if zoomed else 2, max(1, len(zoomed)))
        losses = figure.add_subplot(grid[0, :])
        ports = figure.add_subplot(grid[1, :], sharex=losses)
        _draw_losses(losses, result, phases, totals=True)
        _draw_ports(ports, result, phases)
        _name_phases(losses, phases, result)
        ports.set_xlim(0, result.end_s - result.begin_s)
        for column, phase in enumerate(zoomed):
            _draw_zoom(figure.add_subplot(grid[2, column]), result, phases, phase)
        figure.savefig(target.with_suffix(".svg"))
        figure.savefig(target.with_suffix(".png"), dpi=130)


def _title(result: Result, phases: Sequence[LossPhase]) -> str:
    lost = f"{result.lost:,} of {result.sent:,} packets lost"
    where = ", ".join(f"{phase.lost} at {phase.name}" for phase in phases if phase.lost)
    return f"A guest with a VF moves from host A to host B: {lost}" + (
        f" ({where})" if where else ""
    )


def _draw_losses(axes: Axes, result: Result, phases: Sequence[LossPhase], *, totals: bool) -> None:
    _shade(axes, result, phases)
    names = list(FLOWS)
    for flow in result.flows:
        row = len(names) - 1 - names.index(flow.name)
        times = [loss.sent_at_s - result.begin_s for loss in flow.lost]
        axes.eventplot(times, lineoffsets=row, linelengths=0.7, linewidths=0.8, colors=LOSS_COLOUR)
        if totals:
            axes.text(
                1.005, row, f"{len(flow.lost)} of {flow.sent:,}",
                transform=axes.get_yaxis_transform(), va="center",
            )  # fmt: skip
    axes.set_yticks(range(len(names)), [FLOWS[name] for name in reversed(names)])
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.tick_params(axis="y", length=0)
    _plain(axes)


def _draw_ports(axes: Axes, result: Result, phases: Sequence[LossPhase]) -> None:
    _shade(axes, result, phases)
    times = [max(0.0, port.at_s - result.begin_s) for port in result.active_ports]
    levels = [PORT_LEVELS[port.kind] for port in result.active_ports]
    times.append(result.end_s - result.begin_s)
    levels.append(levels[-1] if levels else 0.0)
    axes.step(times, levels, where="post", color=PORT_COLOUR, linewidth=2)
    for port in result.active_ports:
        axes.annotate(
            port.name, (max(0.0, port.at_s - result.begin_s), PORT_LEVELS[port.kind]),
            xytext=(4, 4), textcoords="offset points", color=PORT_COLOUR,
        )  # fmt: skip
    axes.set_yticks([1.0, 2.0], ["active: standby (virtio)", "active: VF"])
    axes.set_ylim(0.6 if 0.0 not in levels else -0.4, 2.5)
    axes.set_xlabel("seconds since the probe began")
    stall = result.tcp
    at_s = stall.longest_stall_at_s - result.begin_s
    axes.plot([at_s, at_s + stall.longest_stall_ms / 1000], [0.75, 0.75], color="#555", lw=4)
    axes.annotate(
        f"longest wait of TCP: {stall.longest_stall_ms:.0f} ms", (at_s, 0.75),
        xytext=(-6, 0), textcoords="offset points", ha="right", va="center", color="#555",
    )  # fmt: skip
    _plain(axes)


def _draw_zoom(axes: Axes, result: Result, phases: Sequence[LossPhase], phase: LossPhase) -> None:
    _draw_losses(axes, result, phases, totals=False)
    lost = [
        loss.sent_at_s - result.begin_s
        for flow in result.flows
        for loss in flow.lost_between(phase.begin_s, phase.end_s)
    ]
    axes.set_xlim(min(lost) - ZOOM_MARGIN_S, max(lost) + ZOOM_MARGIN_S)
    axes.set_title(
        f"{phase.name}: {phase.lost} lost, longest gap {phase.longest_gap_ms:.0f} ms", loc="left"
    )


def _shade(axes: Axes, result: Result, phases: Sequence[LossPhase]) -> None:
    for phase in phases:
        begin_s, end_s = phase.begin_s - result.begin_s, phase.end_s - result.begin_s
        axes.axvspan(begin_s, end_s, color=COLOURS[phase.name], linewidth=0)


def _name_phases(axes: Axes, phases: Sequence[LossPhase], result: Result) -> None:
    """Write the name of each phase above its band; narrow neighbours take turns in height."""
    whole_s = result.end_s - result.begin_s
    last_s = -whole_s
    raised = False
    for phase in phases:
        middle_s = (phase.begin_s + phase.end_s) / 2 - result.begin_s
        raised = not raised if middle_s - last_s < 0.07 * whole_s else False
        axes.text(
            middle_s, 1.16 if raised else 1.03, phase.name,
            transform=axes.get_xaxis_transform(), ha="center", va="bottom", color="#333",
        )  # fmt: skip
        last_s = middle_s


def _plain(axes: Axes) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
