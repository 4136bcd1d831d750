"""The status as a Prometheus text file (node_exporter's textfile collector)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from guestagent.guest.core.pair import Role
from guestagent.guest.report.status import PairStatus, Status

METRICS = {
    "guestagent_up": ("gauge", "Whether the agent runs."),
    "guestagent_info": ("gauge", "1, with the version of the running agent."),
    "guestagent_start_time_seconds": ("gauge", "When the agent started, in Unix time."),
    "guestagent_converged": ("gauge", "Whether nothing is left to do or to wait for."),
    "guestagent_failing": ("gauge", "Whether the last attempt to reach that state failed."),
    "guestagent_left_alone": ("gauge", "Groups of NICs of one MAC that are left alone."),
    "guestagent_pair_bonded": ("gauge", "Whether the pair has its bond."),
    "guestagent_pair_active": ("gauge", "Whether this side carries the pair's traffic."),
    "guestagent_pair_hold_seconds": ("gauge", "How long the pair stays held on the standby."),
    "guestagent_pair_switches_total": ("counter", "Moves of the traffic, as the agent saw them."),
    "guestagent_pair_switched_seconds": ("gauge", "When the traffic last moved, in Unix time."),
    "guestagent_pair_announcements_total": ("counter", "Announcements that the agent has sent."),
    "guestagent_port_present": ("gauge", "Whether the NIC is there."),
    "guestagent_port_carrier": ("gauge", "Whether the NIC has a carrier."),
    "guestagent_port_joined": ("gauge", "Whether the NIC is a port of the bond."),
    "guestagent_port_lost_carrier_total": ("counter", "Carriers lost since the port joined."),
}
"""Type and help by name; guestagent(8) lists the names."""


@dataclass(frozen=True, slots=True)
class _Sample:
    name: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        inner = ",".join(f'{key}="{_escaped(value)}"' for key, value in self.labels)
        number = f"{self.value:.3f}".rstrip("0").rstrip(".")
        return f"{self.name}{{{inner}}} {number}" if inner else f"{self.name} {number}"


def as_prometheus(report: Status) -> str:
    """Return the text form, each metric with its help and type; absent values are left out."""
    samples = list(_samples(report))
    lines: list[str] = []
    for name, (kind, about) in METRICS.items():
        found = [str(sample) for sample in samples if sample.name == name]
        if found:
            lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}", *found]
    return "\n".join(lines) + "\n"


def _samples(report: Status) -> Iterator[_Sample]:
    yield _Sample("guestagent_up", report.started_at_s is not None)
    if report.started_at_s is not None:
        yield _Sample("guestagent_info", 1, (("version", report.agent_version or "unknown"),))
        yield _Sample("guestagent_start_time_seconds", report.started_at_s)
    yield _Sample("guestagent_converged", report.converged)
    yield _Sample("guestagent_failing", report.last_error is not None)
    yield _Sample("guestagent_left_alone", len(report.left_alone))
    for pair in report.pairs:
        yield from _pair(pair)


def _pair(pair: PairStatus) -> Iterator[_Sample]:
    labels = (("bond", pair.bond or ""), ("mac", pair.mac))
    yield _Sample("guestagent_pair_bonded", pair.bond is not None, labels)
    values = {
        "guestagent_pair_switches_total": pair.switches,
        "guestagent_pair_switched_seconds": pair.switched_at_s,
        "guestagent_pair_announcements_total": pair.announcements,
        "guestagent_pair_hold_seconds": pair.held_s or 0,
    }
    for name, value in values.items():
        if value is not None:
            yield _Sample(name, value, labels)
    for role, port in ((Role.VF, pair.vf), (Role.STANDBY, pair.standby)):
        sided = (*labels, ("side", str(role)))
        yield _Sample("guestagent_pair_active", pair.active is role, sided)
        yield _Sample("guestagent_port_present", port is not None, sided)
        yield _Sample("guestagent_port_carrier", port is not None and port.carrier, sided)
        yield _Sample("guestagent_port_joined", port is not None and port.joined, sided)
        if port is not None and port.lost_carrier is not None:
            yield _Sample("guestagent_port_lost_carrier_total", port.lost_carrier, sided)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
