"""One word for one concept: the glossary agrees with the code, and sentences have subjects."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.lint.tree import ROOT, SHIPPED, python_files

GLOSSARY = ROOT / "docs" / "design" / "glossary.md"
CODE = ("guestagent", "lab", "packaging", "tests")
COLUMNS = 5

VAGUE = re.compile(
    r"\b(?:in words(?=[,;]|\.(?!\w))|came to|way of frames|belongings|off limits|not its matter"
    r"|of the user's)\b",
    re.IGNORECASE,
)
"""Phrases in place of a noun: a text, a result, forwarding, addressing, unmanaged."""
_RELATIVE = re.compile(r"(?:Return |Say |Tell )?(?:what|who|whom|whose|which)\b", re.IGNORECASE)


def code() -> list[Path]:
    """Return the modules of the product, the lab, the packaging and the tests."""
    return [path for top in CODE for path in python_files(ROOT / top)]


def rows(text: str) -> list[list[str]]:
    """Return the cells of the glossary's terms."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    return [row for row in cells if row[0] != "term" and not row[0].startswith("---")]


def names_in(path: Path) -> Iterator[str]:
    """Yield the names of a module, its folder, and its classes, functions and fields."""
    yield from (path.stem, path.parent.name)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                names = target.elts if isinstance(target, ast.Tuple) else [target]
                yield from (name.id for name in names if isinstance(name, ast.Name))


def shared_class_names(modules: list[Path]) -> list[str]:
    """Return the names that more than one class has, a leading underscore aside."""
    found = Counter(
        node.name.lstrip("_")
        for path in modules
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    )
    return sorted(name for name, times in found.items() if times > 1)


def relative_docstrings(paths: list[Path]) -> list[str]:
    """Return the places of docstrings that begin with a relative clause in place of a noun."""
    return [
        f"{path}:{node.lineno}: {text.splitlines()[0]}"
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(text := node.value.value, str)
        and _RELATIVE.match(text)
    ]


def vague_phrases(paths: list[Path]) -> list[str]:
    """Return the places of phrases that stand for a noun."""
    return [
        f"{path}:{number}: {found.group()}"
        for path in paths
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        for found in VAGUE.finditer(line)
    ]


def test_every_code_name_of_the_glossary_exists() -> None:
    known = {name for path in python_files(SHIPPED) for name in names_in(path)}
    named = [
        name
        for row in rows(GLOSSARY.read_text())
        for cell in re.findall(r"`([^`]+)`", row[3])
        for name in cell.split(".")
    ]
    assert named
    assert [name for name in named if name not in known] == []


def test_the_glossary_is_complete_and_names_each_term_once() -> None:
    terms = rows(GLOSSARY.read_text())
    assert [row for row in terms if len(row) != COLUMNS] == []
    assert [term for term, times in Counter(row[0] for row in terms).items() if times > 1] == []
    assert {row[2] for row in terms} == {"guest", "host", "both"}
    assert [row[0] for row in terms if not row[1].endswith(".")] == []


def test_one_class_name_stands_for_one_class() -> None:
    assert shared_class_names(python_files(SHIPPED)) == []


def test_docstrings_name_their_noun() -> None:
    assert relative_docstrings(code()) == []


def test_documents_and_code_avoid_vague_phrases() -> None:
    documents = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "packaging" / "man").iterdir(),
    ]
    prose = [path for path in (*documents, *code()) if path not in {GLOSSARY, Path(__file__)}]
    assert vague_phrases(prose) == []


def test_a_vague_phrase_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("The error, in words, and what it came to.\n")
    assert len(vague_phrases([path])) == 2


def test_two_classes_of_one_name_are_found(tmp_path: Path) -> None:
    paths = [tmp_path / "a.py", tmp_path / "b.py"]
    paths[0].write_text("class Owner:\n    pass\n")
    paths[1].write_text("class _Owner:\n    pass\n")
    assert shared_class_names(paths) == ["Owner"]


def test_a_docstring_without_a_noun_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text('"""What there is."""\n\ndef f():\n    """Return which it is."""\n')
    assert len(relative_docstrings([path])) == 2
    path.write_text('"""Whether a bond is ours."""\n')
    assert relative_docstrings([path]) == []
