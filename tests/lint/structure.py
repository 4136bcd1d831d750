"""Rules on the structure of the code, held against its syntax tree.

Each function takes files and returns what is wrong, one finding a line, so that
the tests can hold it against the tree and against samples that violate it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

LINES_OF_A_MODULE = 400
LINES_OF_A_FUNCTION = 60

# Modules that are longer, and why they cannot be split with profit.
LONG_MODULES: Mapping[str, str] = {}

# What a pure module may import: no I/O, no clock, no other process. (A path is
# there as a value only.)
PURE_LIBRARY = {
    "__future__",
    "bisect",
    "collections",
    "collections.abc",
    "dataclasses",
    "enum",
    "fnmatch",
    "functools",
    "ipaddress",
    "itertools",
    "json",
    "math",
    "operator",
    "pathlib",
    "re",
    "struct",
    "types",
    "typing",
}
# Everything below these is pure, but what is called ``gather``, which asks the system.
PURE_ROOMS = (
    "guestagent.codec",
    "guestagent.errors",
    "guestagent.findings",
    "guestagent.json_fields",
    "guestagent.guest.core",
    "guestagent.guest.doctor",
    "guestagent.guest.render",
    "guestagent.guest.stacks.ini",
    "guestagent.host.migration",
    "guestagent.host.model",
    "guestagent.host.preflight",
    "guestagent.host.sriov.core",
)
GATHER = "gather"

# The rooms of each program and of the lab, from the ground up; a room imports from lower floors
# alone.
FLOORS: Mapping[str, tuple[frozenset[str], ...]] = {
    "guestagent.guest": (
        frozenset({"core"}),
        frozenset({"api", "kernel", "state"}),
        frozenset({"report", "stacks"}),
        frozenset({"reconcile"}),
        frozenset({"doctor", "render", "service"}),
        frozenset({"cli"}),
    ),
    "guestagent.host": (
        frozenset({"sriov", "terminal"}),
        frozenset({"model"}),
        frozenset({"hypervisor", "migration"}),
        frozenset({"preflight", "store"}),
        frozenset({"remote"}),
        frozenset({"config", "run"}),
        frozenset({"report"}),
        frozenset({"cli"}),
    ),
    "lab": (
        frozenset({"base", "guestside"}),
        frozenset({"image", "network"}),
        frozenset({"machine"}),
        frozenset({"probe"}),
        frozenset({"migration"}),
        frozenset({"bench", "nested"}),
        frozenset({"demo"}),
        frozenset({"dev"}),
        frozenset({"__main__"}),
    ),
}
MOST_LOOSE_MODULES = 2
MOST_SHIPPED_LINES = 22_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wall:
    """``forbidden`` is imported nowhere below ``inside`` but in ``doors``: names of modules."""

    inside: str
    forbidden: str
    doors: tuple[str, ...] = ()
    why: str


WALLS = (
    Wall(
        inside="guestagent.guest",
        forbidden="guestagent.host",
        why="the two programs are installed one without the other",
    ),
    Wall(
        inside="guestagent.host",
        forbidden="guestagent.guest",
        why="the two programs are installed one without the other",
    ),
    Wall(
        inside="guestagent",
        forbidden="pyroute2",
        doors=("guestagent.host.sriov.netlink",),
        why="it is large, has no types, and its versions differ",
    ),
    Wall(
        inside="guestagent",
        forbidden="pyudev",
        doors=("guestagent.guest.kernel",),
        why="it has no types",
    ),
    Wall(
        inside="guestagent",
        forbidden="qemu",
        doors=("guestagent.host.hypervisor",),
        why="its interface is alpha, and another hypervisor may follow",
    ),
    Wall(inside="guestagent", forbidden="lab", why="the lab is not shipped"),
    Wall(inside="guestagent", forbidden="tests", why="the tests are not shipped"),
)


def import_findings(root: Path, modules: list[Path]) -> list[str]:
    """Return the imports that a wall or the purity of a module forbids."""
    findings = []
    for path in modules:
        module = _module_name(root, path)
        for line, imported in _imports(path, module):
            where = f"{path.relative_to(root)}:{line}"
            for wall in WALLS:
                breached = _below(module, wall.inside) and _below(imported, wall.forbidden)
                if breached and not any(_below(module, door) for door in wall.doors):
                    findings.append(f"{where}: imports {imported}: {wall.why}")
            if is_pure(module) and imported not in PURE_LIBRARY and not is_pure(imported):
                findings.append(f"{where}: imports {imported}, and {module} is pure")
    return findings


def is_pure(module: str) -> bool:
    """Whether a module may not do I/O."""
    room = next((room for room in PURE_ROOMS if _below(module, room)), None)
    return room is not None and GATHER not in module.removeprefix(room).split(".")


def floor_findings(root: Path, modules: list[Path]) -> list[str]:
    """Return imports that go up or sideways between the rooms of a program, and unknown rooms."""
    findings = []
    for path in modules:
        module = _module_name(root, path)
        program, room = _room(module)
        if program is None or room is None:
            continue
        if _floor(program, room) is None:
            findings.append(f"{path.relative_to(root)}: {room} is no room of {program}")
            continue
        for line, imported in _imports(path, module):
            other_program, other = _room(imported)
            if other_program != program or other in {None, room}:
                continue
            if (_floor(program, other) or 0) >= (_floor(program, room) or 0):
                where = f"{path.relative_to(root)}:{line}"
                findings.append(f"{where}: {room} imports {imported}, which is not below it")
    return findings


def loose_findings(root: Path) -> list[str]:
    """Return the programs in whose folder too many modules stand without a room."""
    findings = []
    for program in FLOORS:
        loose = sorted(
            path.name
            for path in root.joinpath(*program.split(".")).glob("*.py")
            if path.name != "__init__.py"
        )
        if len(loose) > MOST_LOOSE_MODULES:
            findings.append(f"{program}: {', '.join(loose)} have no room")
    return findings


def circle_findings(root: Path, modules: list[Path]) -> list[str]:
    """Return the modules that import themselves, however many others are between."""
    graph = {
        name: {imported for _, imported in _imports(path, name)} - {name}
        for path in modules
        if (name := _module_name(root, path))
    }
    findings = []
    for start, imports in graph.items():
        reached: set[str] = set()
        ahead = set(imports)
        while ahead:
            module = ahead.pop()
            reached.add(module)
            ahead |= graph.get(module, set()) - reached
        if start in reached:
            findings.append(f"{start}: imports itself through others")
    return findings


def line_findings(shipped: list[Path], *, most: int = MOST_SHIPPED_LINES) -> list[str]:
    """Return by how much the shipped code is longer than it may be."""
    lines = sum(len(path.read_text().splitlines()) for path in shipped)
    return [f"{lines} lines are shipped, and {most} are the limit"] if lines > most else []


def _room(module: str) -> tuple[str | None, str | None]:
    """Return the program of a module and its room there."""
    for program in FLOORS:
        if _below(module, program) and module != program:
            return program, module.removeprefix(f"{program}.").split(".")[0]
    return None, None


def _floor(program: str, room: str | None) -> int | None:
    floors = FLOORS[program]
    return next((n for n, rooms in enumerate(floors) if room in rooms), None)


def size_findings(
    root: Path, modules: list[Path], *, exceptions: Mapping[str, str] = LONG_MODULES
) -> list[str]:
    """Return modules and functions that are too long, and exceptions no longer needed."""
    findings = []
    for path in modules:
        name = str(path.relative_to(root))
        text = path.read_text()
        length = len(text.splitlines())
        if length > LINES_OF_A_MODULE and name not in exceptions:
            findings.append(f"{name}: {length} lines, and {LINES_OF_A_MODULE} are the limit")
        if length <= LINES_OF_A_MODULE and name in exceptions:
            findings.append(f"{name}: {length} lines need no exception any more")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LINES_OF_A_FUNCTION:
                    findings.append(f"{name}:{node.lineno}: {node.name} has {lines} lines")
    findings.extend(f"{name}: no such file" for name in exceptions if not (root / name).exists())
    return findings


def _module_name(root: Path, path: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path, module: str) -> Iterator[tuple[int, str]]:
    """Yield line and full name of each imported module, those imported late included.

    ``from a import b`` counts as ``a.b`` when that is a module of the same tree.
    """
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    root = path.parents[len(module.split(".")) - (path.name != "__init__.py")]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
                base = f"{above}.{base}".rstrip(".")
            for alias in node.names:
                inner = root.joinpath(*base.split("."), alias.name)
                is_module = inner.is_dir() or inner.with_suffix(".py").exists()
                yield node.lineno, f"{base}.{alias.name}" if is_module else base


def _below(module: str, top: str) -> bool:
    return module == top or module.startswith(f"{top}.")
