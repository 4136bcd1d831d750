"""The status as text, in colour on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from enum import IntEnum

from guestagent.guest.core.pair import Role
from guestagent.guest.report.status import PairStatus, PortStatus, Status


class Colour(IntEnum):
    """Foreground colours of ECMA-48, SGR."""

    RED = 31
    GREEN = 32
    YELLOW = 33


Paint = Callable[[str, Colour], str]


def plain(text: str, _: Colour) -> str:
    """Return the text without colour."""
    return text


def ansi(text: str, colour: Colour) -> str:
    """Colour a text for a terminal."""
    return f"\x1b[{colour:d}m{text}\x1b[0m"


def as_text(report: Status, paint: Paint = plain) -> str:
    """Return pairs with their ports, refusals, waiting, pending steps and the last error."""
    lines = [line for pair in report.pairs for line in _pair(pair, paint)]
    for item in report.left_alone:
        label = paint("left alone", Colour.RED)
        lines.append(f"{label}  {item.mac}  {', '.join(item.links)}: {item.reason}")
        lines.append(f"            {item.hint}")
    lines.extend(f"{paint('waiting', Colour.YELLOW)}     {text}" for text in report.waiting)
    lines.extend(f"{paint('to do', Colour.YELLOW)}       {text}" for text in report.pending)
    if report.last_error is not None:
        lines.append(f"{paint('last error', Colour.RED)}  {report.last_error}")
    if not report.pairs and not report.left_alone:
        lines.append("no pair: no virtio-net NIC shares its permanent MAC with another NIC")
    running = report.started_at_s is not None
    agent = report.agent if running else paint(report.agent, Colour.RED)
    since = f" since {_moment(report.started_at_s)}" if report.started_at_s is not None else ""
    lines.append(f"agent       {agent}{since}")
    return "\n".join(lines)


def _pair(pair: PairStatus, paint: Paint) -> Iterator[str]:
    hold = "" if pair.held_s is None else f", for {pair.held_s:.0f} s more at most"
    colour = {Role.VF: Colour.GREEN, Role.STANDBY: Colour.YELLOW, None: Colour.RED}[pair.active]
    yield f"{pair.bond or 'no bond'}  {pair.mac}  {paint(pair.reason, colour)}{hold}"
    yield _port(pair, "VF", pair.vf, paint)
    yield _port(pair, "standby", pair.standby, paint)
    counted: list[str] = []
    if pair.switched_at_s is not None:
        counted.append(f"last switch {_moment(pair.switched_at_s)} ({pair.switches} in all)")
    if pair.announcements:
        counted.append(f"{pair.announcements} announcements sent")
    if counted:
        yield f"    {', '.join(counted)}"


def _port(pair: PairStatus, label: str, port: PortStatus | None, paint: Paint) -> str:
    if port is None:
        return f"    {label:8} away"
    sign = "→" if port.name == pair.active_port else " "
    words = [
        f"{port.name} ({port.driver}, {port.bus_address or 'no bus address'})",
        "carrier" if port.carrier else paint("no carrier", Colour.RED),
    ]
    if port.lost_carrier:
        words.append(f"lost it {port.lost_carrier} time{'s' if port.lost_carrier > 1 else ''}")
    if not port.joined:
        words.append("not a port of the bond")
    if port.name == pair.primary:
        words.append("primary")
    return f"  {sign} {label:8} {', '.join(words)}"


def _moment(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s))
