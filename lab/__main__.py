"""The commands of ``./dev``, which has installed what they need."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

from guestagent.errors import EXIT_USAGE, GuestAgentError
from lab.paths import PACKAGES, ROOT


def main(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    command, *rest = arguments or [""]
    try:
        match command:
            case "test":
                return _test(rest)
            case "lint":
                return _test(["lint", *rest])
            case "package":
                return _package()
            case "image":
                from lab.image import ensure_image

                print(ensure_image().directory)
                return 0
            case "shell":
                from lab.shell import main as shell

                return shell()
            case "demo":
                from lab.demo import main as demo

                return demo(rest)
            case "bench":
                return _bench(rest)
    except GuestAgentError as error:
        print(f"{command}: {error}", file=sys.stderr)
        if error.hint:
            print(f"{command}: {error.hint}", file=sys.stderr)
        return error.exit_code
    print(f"dev: there is no command {command!r} yet; see ./dev help", file=sys.stderr)
    return EXIT_USAGE


def _bench(arguments: list[str]) -> int:
    name = arguments[0] if arguments else ""
    if name in {"boot", "crowd", "rest", "soak"}:
        measure = import_module(f"lab.bench.{name}")
        return int(measure.main(arguments[1:]))
    from lab.bench.race import main as race

    return race(arguments)


def _test(arguments: list[str]) -> int:
    from lab.tiers import run_tiers

    separator = arguments.index("--") if "--" in arguments else len(arguments)
    return run_tiers(arguments[:separator], arguments[separator + 1 :])


def _package() -> int:
    """Build the packages and hold them against Debian's policy."""
    built = subprocess.run([sys.executable, "packaging/build.py"], cwd=ROOT, check=False)
    if built.returncode != 0:
        return built.returncode
    packages = sorted(PACKAGES.glob("*.deb"))
    return subprocess.run(
        ["lintian", "--fail-on=warning", "--allow-root", *packages], check=False
    ).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
