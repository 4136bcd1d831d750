"""The list of commands: what each does, what it needs, and what runs it.

``main`` runs twice for one command. The system's Python reads the words, installs what is missing
and makes the virtual environment; the Python of that environment then runs the command. Modules
that need more than the standard library are therefore imported by the functions that use them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from guestagent.errors import EXIT_USAGE, GuestAgentError
from lab.base.paths import PACKAGES, ROOT
from lab.dev.prepare import VENV, Need, prepare
from lab.dev.tiers import ALL, TIERS, chosen, run_tiers

EXIT_NO_START = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command; ``run`` gets the words after its name."""

    run: Callable[[Sequence[str]], int]
    help: tuple[tuple[str, ...], ...]
    """Each way to call it: the words, and one or more lines of description."""
    needs: frozenset[Need] = frozenset()
    root: bool = False


def main(words: Sequence[str]) -> int:
    """Prepare and run one command; return its exit code.

    In the system's Python it does not return when it has prepared: the process goes on as ``main``
    in the Python of the virtual environment.
    """
    name, *rest = words or ["help"]
    if name in {"help", "-h", "--help"}:
        print(usage())
        return 0
    command = COMMANDS.get(name)
    if command is None or (name == "test" and not _are_tiers(rest)):
        print(usage(), file=sys.stderr)
        return EXIT_USAGE
    if Path(sys.prefix) == VENV:
        return _run(name, command, rest)
    if command.root and os.geteuid() != 0:
        print(f"dev: {name} needs root\ndev: run: sudo ./dev {name}", file=sys.stderr)
        return EXIT_NO_START
    try:
        prepare(_needs_of_tiers(rest) if name == "test" else command.needs)
    except GuestAgentError as error:
        _complain("dev", error)
        return EXIT_NO_START
    sys.stdout.flush()
    python = str(VENV / "bin" / "python")
    os.execv(python, [python, "-m", "lab", *words])  # noqa: S606 - no shell is wanted
    raise AssertionError("unreachable")


def _run(name: str, command: Command, rest: Sequence[str]) -> int:
    try:
        return command.run(rest)
    except GuestAgentError as error:
        _complain(name, error)
        return error.exit_code


def _complain(name: str, error: GuestAgentError) -> None:
    print(f"{name}: {error}", file=sys.stderr)
    if error.hint:
        print(f"{name}: {error.hint}", file=sys.stderr)


def usage() -> str:
    """Return the text of ``./dev help``."""
    lines = ["usage: [sudo] ./dev COMMAND [ARGUMENT...]", ""]
    for command in COMMANDS.values():
        for call, first, *more in command.help:
            lines.append(f"  {call:<17}  {first}")
            lines += [f"{'':<21}{line}" for line in more]
    lines += ["", "tiers of ./dev test:"]
    for tier in TIERS:
        when = f"; by name only: {tier.when}" if tier.when else ""
        lines.append(f"  {tier.name:<17}  {tier.help}{when}")
    rooted = [tier.name for tier in TIERS if tier.needs_root]
    commands = [name for name, command in COMMANDS.items() if command.root]
    lines += [
        "",
        f"These need root: {', '.join(commands)};",
        f"and the tiers {', '.join(rooted)}.",
        "They make network namespaces, disk images or chroots. Others need it only while",
        "something is to be installed. A second run starts from what build/ keeps; removing",
        "build/ is safe.",
    ]
    return "\n".join(lines)


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names of tiers and the arguments of pytest, which follow ``--``."""
    end = list(words).index("--") if "--" in words else len(words)
    return list(words[:end]), list(words[end + 1 :])


def _are_tiers(words: Sequence[str]) -> bool:
    return set(_split(words)[0]) <= {ALL, *(tier.name for tier in TIERS)}


def _needs_of_tiers(words: Sequence[str]) -> frozenset[Need]:
    """Return the needs of the named tiers; a tier that needs root is skipped without root."""
    tiers = chosen(_split(words)[0])
    runnable = [tier for tier in tiers if os.geteuid() == 0 or not tier.needs_root]
    return frozenset().union(*(tier.needs for tier in runnable))


def _test(words: Sequence[str]) -> int:
    return run_tiers(*_split(words))


def _lint(words: Sequence[str]) -> int:
    return run_tiers(["lint"], _split(words)[1])


def _package(_: Sequence[str]) -> int:
    """Build the packages and check them against Debian's policy."""
    built = subprocess.run([sys.executable, "packaging/build.py"], cwd=ROOT, check=False)
    if built.returncode != 0:
        return built.returncode
    packages = sorted(PACKAGES.glob("*.deb"))
    return subprocess.run(
        ["lintian", "--fail-on=warning", "--allow-root", *packages], check=False
    ).returncode


def _image(_: Sequence[str]) -> int:
    from lab.image.build import ensure_image

    print(ensure_image().directory)
    return 0


def _demo(words: Sequence[str]) -> int:
    from lab.demo.main import main as demo

    return demo(list(words))


def _bench(words: Sequence[str]) -> int:
    name = words[0] if words else ""
    if name in {"boot", "crowd", "rest", "soak"}:
        measure = import_module(f"lab.bench.{name}")
        return int(measure.main(words[1:]))
    from lab.bench.race import main as race

    return race(words)


def _shell(_: Sequence[str]) -> int:
    from lab.dev.shell import main as shell

    return shell()


def _setup(_: Sequence[str]) -> int:
    return 0  # all that it does is to prepare


COMMANDS = {
    "demo": Command(
        run=_demo,
        root=True,
        needs=frozenset({Need.LAB}),
        help=(
            (
                "demo",
                "live-migrate a guest with a VF and draw the lost packets",
                "-> build/demo/report.json, timeline.svg, timeline.png",
            ),
            ("demo --sriov", "the same with real VFs, both hosts inside one guest"),
        ),
    ),
    "test": Command(
        run=_test,
        help=(
            (
                "test [TIER...]",
                "the named tiers, or all that decide whether a change lands (all)",
                "what follows -- goes to pytest: ./dev test unit -- -k plan",
            ),
        ),
    ),
    "bench": Command(
        run=_bench,
        root=True,
        needs=frozenset({Need.LAB}),
        help=(
            ("bench", "race the agent against what else exists"),
            ("bench boot", "the time that the agent adds to a boot"),
            ("bench rest", "its memory and wake-ups at rest, five minutes"),
            ("bench soak", "a VF that goes and comes a thousand times, about an hour"),
            ("bench crowd", "sixteen pairs in one guest, and how long each takes"),
        ),
    ),
    "shell": Command(
        run=_shell,
        root=True,
        needs=frozenset({Need.LAB}),
        help=(("shell", "a root shell in a guest with a virtio NIC and a VF"),),
    ),
    "lint": Command(
        run=_lint,
        needs=frozenset({Need.LINT}),
        help=(("lint", "ruff, mypy, shellcheck, codespell: the same as test lint"),),
    ),
    "package": Command(
        run=_package,
        needs=frozenset({Need.PACKAGE}),
        help=(("package", "Debian packages, RPMs, wheel and source -> build/packages"),),
    ),
    "image": Command(
        run=_image,
        root=True,
        needs=frozenset({Need.LAB}),
        help=(("image", "build the guest image that the lab boots"),),
    ),
    "setup": Command(
        run=_setup,
        root=True,
        needs=frozenset(Need),
        help=(("setup", "install everything that the other commands need"),),
    ),
    "help": Command(run=_setup, help=(("help", "this text"),)),
}
