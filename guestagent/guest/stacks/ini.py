"""Files of sections with keys, values and globs, as systemd and NetworkManager have them. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence

Section = tuple[str, tuple[tuple[str, str], ...]]
"""Name of a section; its keys and values in order."""
Sections = tuple[Section, ...]


def parse(text: str) -> Sections:
    """Split a file into sections. Repeated sections and keys stay apart, in order.

    systemd.syntax(7). nm-settings-keyfile(5) differs in its quoting, which is kept unchanged.
    """
    sections: list[tuple[str, list[tuple[str, str]]]] = []
    for raw in text.replace("\\\n", " ").splitlines():
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and line.endswith("]"):
            sections.append((line[1:-1], []))
        elif "=" in line and sections:
            key, value = line.split("=", 1)
            sections[-1][1].append((key.strip(), value.strip()))
    return tuple((name, tuple(pairs)) for name, pairs in sections)


def entries(sections: Sections, name: str) -> Iterator[tuple[str, str]]:
    """Yield the keys and values of all sections of a name."""
    return (pair for section, pairs in sections if section == name for pair in pairs)


def value_of(sections: Sections, name: str, key: str) -> str | None:
    """Return the last value of a key, or None."""
    return dict(entries(sections, name)).get(key)


def fits(globs: Sequence[str], subject: str) -> bool:
    """Whether one of the globs matches, if there are any, and none after an exclamation mark."""
    wanted = [glob for glob in globs if not glob.startswith("!")]
    refused = [glob[1:] for glob in globs if glob.startswith("!")]

    def matches(glob: str) -> bool:
        return bool(subject) and fnmatch.fnmatchcase(subject, glob)

    return not any(map(matches, refused)) and (not wanted or any(map(matches, wanted)))


def write(sections: Sections) -> str:
    """Return the text of a file with these sections, a blank line between two of them."""
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key}={value}\n" for key, value in pairs)
        for name, pairs in sections
    )
