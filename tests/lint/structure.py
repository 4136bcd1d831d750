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
LINES_OF_A_FUNCTION = 70

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
    "functools",
    "ipaddress",
    "itertools",
    "math",
    "operator",
    "pathlib",
    "re",
    "typing",
}
PURE_MODULES = {
    "guestagent.errors",
    "guestagent.guest.actions",
    "guestagent.guest.doctor.examine",
    "guestagent.guest.doctor.facts",
    "guestagent.guest.doctor.nics",
    "guestagent.guest.doctor.stacks",
    "guestagent.guest.doctor.system",
    "guestagent.guest.hindrance",
    "guestagent.guest.messages",
    "guestagent.guest.model",
    "guestagent.guest.pairing",
    "guestagent.guest.plan",
    "guestagent.guest.release",
    "guestagent.guest.render.model",
    "guestagent.guest.render.netplan",
    "guestagent.guest.render.networkd",
    "guestagent.guest.render.networkmanager",
    "guestagent.host.arrival",
    "guestagent.host.effects",
    "guestagent.host.findings",
    "guestagent.host.machine",
    "guestagent.host.model",
    "guestagent.host.ownership",
    "guestagent.host.preflight",
    "guestagent.host.readiness",
    "guestagent.host.recovery",
    "guestagent.host.sriov.model",
    "guestagent.host.sriov.values",
    "guestagent.host.sriov.choose",
    "guestagent.host.state",
    "guestagent.host.vffindings",
}


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
        doors=("guestagent.guest.kernel", "guestagent.host.sriov", "guestagent.pyroute"),
        why="it has no types, and its versions differ",
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
            if module in PURE_MODULES and imported not in PURE_LIBRARY | PURE_MODULES:
                findings.append(f"{where}: imports {imported}, and {module} is pure")
    return findings


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
