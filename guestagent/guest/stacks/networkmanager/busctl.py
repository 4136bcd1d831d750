"""D-Bus calls by ``busctl``, which is part of systemd.

Its output is JSON: a variant is an object of ``type`` and ``data``, a dictionary is an object, an
array or a structure is an array. On its command line every value is written by its signature,
each array and dictionary after its length (busctl(1), PARAMETER FORMATTING).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from guestagent.guest.stacks.commands import run_command


def call(
    service: str, path: str, interface: str, method: str, *arguments: str, hint: str
) -> list[Any]:
    """Call a method on the system bus and return its values. Raises PeerError."""
    command = ("busctl", "--json=short", "call", service, path, f"{service}{interface}", method)
    answer = run_command(*command, *arguments, hint=hint).strip()
    data: list[Any] = json.loads(answer)["data"] if answer else []
    return data


def words(signature: str, value: Any) -> Iterator[str]:
    """Yield a value of the JSON output as words of the command line."""
    kind = signature[0]
    if kind == "v":
        yield value["type"]
        yield from words(value["type"], value["data"])
    elif signature.startswith("a{"):
        yield str(len(value))
        for key, item in value.items():
            yield str(key)
            yield from words(signature[3:-1], item)
    elif kind == "a":
        yield str(len(value))
        for item in value:
            yield from words(signature[1:], item)
    elif kind == "(":
        for part, item in zip(_parts(signature[1:-1]), value, strict=True):
            yield from words(part, item)
    elif kind == "b":
        yield "true" if value else "false"
    else:
        yield str(value)


def _parts(signature: str) -> Iterator[str]:
    """Yield the complete types of a signature."""
    part, depth = "", 0
    for char in signature:
        part += char
        depth += (char in "({") - (char in ")}")
        if depth == 0 and char != "a":
            yield part
            part = ""
