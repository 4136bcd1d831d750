"""The JSON that commands print for programs.

It is an interface: members are added, never renamed or removed within a version.
"""

from __future__ import annotations

import json

VERSION = 1


def document(**members: object) -> str:
    """Return the text of a document with its version."""
    return json.dumps({"version": VERSION, **members}, indent=2)


def select(value: object, *names: str) -> dict[str, object]:
    """Return the attributes of these names, as members of a document."""
    return {name: getattr(value, name) for name in names}
