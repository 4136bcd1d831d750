"""Choice of the methods and scenarios of a run. Pure."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from guestagent.errors import ConfigurationError
from lab.bench.methods import METHODS, Method, Scenario

ROUNDS = 5
RATE_HZ = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceChoice:
    """Methods and scenarios of a command line."""

    methods: tuple[Method, ...]
    scenarios: tuple[Scenario, ...]
    rounds: int = ROUNDS
    rate_hz: float = RATE_HZ

    def starters(self) -> Iterator[tuple[Method, tuple[Scenario, ...]]]:
        """Yield each method with the scenarios that are asked for and apply to it."""
        for method in self.methods:
            wanted = tuple(item for item in self.scenarios if item in method.scenarios)
            if wanted:
                yield method, wanted

    def left_out(self) -> Iterator[str]:
        """Yield a line for each method with requested scenarios that do not apply to it."""
        for method in self.methods:
            missing = [item for item in self.scenarios if item not in method.scenarios]
            if missing:
                yield f"{method.name} without {', '.join(missing)} ({method.left_out})"


def parse(arguments: Sequence[str]) -> RaceChoice:
    """Return the choice of a command line.

    :raise ConfigurationError: nothing that is asked for applies.
    :raise SystemExit: the command line is wrong, or it asked for help.
    """
    parser = argparse.ArgumentParser(
        prog="./dev bench", description="Race the agent against what else exists."
    )
    names = [method.name for method in METHODS]
    parser.add_argument("--methods", type=_names_among(names), metavar="A,B", default=names,
                        help=f"default: {','.join(names)}")  # fmt: skip
    scenarios = list(Scenario)
    parser.add_argument("--scenarios", type=_names_among(scenarios), metavar="X,Y",
                        default=scenarios, help=f"default: {','.join(scenarios)}")  # fmt: skip
    parser.add_argument("--rounds", type=_positive, metavar="N", default=ROUNDS,
                        help=f"default: {ROUNDS}")  # fmt: skip
    parser.add_argument("--rate", type=_positive, metavar="HZ", default=RATE_HZ,
                        help=f"packets a second in each flow, default: {RATE_HZ:.0f}")  # fmt: skip
    options = parser.parse_args(arguments)
    choice = RaceChoice(
        methods=tuple(method for method in METHODS if method.name in options.methods),
        scenarios=tuple(item for item in Scenario if item in options.scenarios),
        rounds=options.rounds,
        rate_hz=float(options.rate),
    )
    if not any(choice.starters()):
        raise ConfigurationError(
            "none of these methods takes part in any of these scenarios",
            hint="; ".join(choice.left_out()),
        )
    return choice


def _names_among(known: Sequence[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        for name in text.split(","):
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
        return text.split(",")

    return names


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
