"""Resources that the agent's process uses in a guest."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lab.machine.machine import Machine

_ENTER = "cd /proc/$(systemctl show --property MainPID --value guestagent)"
_HEADER = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+\s*(.*)")
_RESIDENT = re.compile(r"Rss:\s+(\d+) kB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Resources of the running agent at one moment."""

    resident_kib: int
    descriptors: int
    wakeups: int
    """Since it was started, of all its threads."""


def agent_usage(guest: Machine) -> Usage:
    """Return the resources that the running agent uses now."""
    words = guest.run(
        f"{_ENTER} && sed -n 's/^VmRSS:\\s*\\([0-9]*\\).*/\\1/p' status && ls fd | wc -l && "
        "sed -n 's/^voluntary_ctxt_switches:\\s*//p' task/*/status"
    ).split()
    resident, descriptors, *wakeups = (int(word) for word in words)
    return Usage(resident_kib=resident, descriptors=descriptors, wakeups=sum(wakeups))


def agent_memory(guest: Machine) -> dict[str, int]:
    """Return where the agent's resident memory goes, in KiB; see ``by_kind``."""
    return by_kind(guest.run(f"{_ENTER} && cat smaps"))


def by_kind(smaps: str) -> dict[str, int]:
    """Sum up the resident KiB of a process by what they are, from proc_pid_smaps(5)."""
    found: dict[str, int] = {}
    kind = ""
    for line in smaps.splitlines():
        header = _HEADER.fullmatch(line)
        resident = _RESIDENT.fullmatch(line)
        if header is not None:
            kind = _kind(header[1])
        elif resident is not None:
            found[kind] = found.get(kind, 0) + int(resident[1])
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _kind(path: str) -> str:
    if path in {"", "[heap]"} or path.startswith("[anon"):
        return "Python's objects and code"
    if "/bin/python3" in path:
        return "the interpreter"
    return "libraries" if ".so" in path else "the rest"
